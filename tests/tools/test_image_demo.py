"""tools/image_demo.py: what it prints and writes, and what it says to bad input."""

import importlib.util
import json
import re

import cv2
import pytest

for host in ('mmdet', 'mmseg', 'mmpretrain'):
    pytest.importorskip(host)

from apis.networks import HOSTS, change_config, networks_in  # noqa: E402

from mmspike.apis import inference  # noqa: E402
from mmspike.utils.errors import UserError  # noqa: E402


@pytest.fixture(scope='module')
def network(tmp_path_factory):
    return networks_in(tmp_path_factory.mktemp('networks'))


@pytest.mark.parametrize('host', HOSTS)
def test_a_folder(network, run_tool, tmp_path, host):
    net = network(host)
    out = tmp_path / 'out put'
    result = run_tool(
        'image_demo.py', net.data / 'val', *net.files(), '--out-dir', out, '--batch-size', 2, '--spikes', 'backbone.stages.1',
        '--score-thr', 0.5,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert 'Inference' in result.stdout and f'Written to {out}' in result.stdout
    expected = inference(*net.files())(net.data / 'val', batch_size=2, show_progress=False)
    assert len(expected) == 3
    for entry in expected:
        assert json.loads((out / 'preds' / f'{entry["name"]}.json').read_text(encoding='utf-8')) == entry
        assert cv2.imread(str(out / 'vis' / f'{entry["name"]}.png')).std() > 5
        assert cv2.imread(str(out / 'spikes' / f'{entry["name"]}.png')).std() > 5
        (line,) = [line for line in result.stdout.splitlines() if line.startswith(f'{entry["name"]}: ')]
        if host == 'mmdet':
            counted = sum(int(part.split()[0]) for part in line.split(': ')[1].split(', ') if part != 'nothing')
            assert counted == sum(score >= 0.5 for score in entry['scores'])
        elif host == 'mmseg':
            assert all(f'{name} {share:.1%}' in line for name, share in zip(entry['classes'], entry['shares'], strict=True))
        else:
            assert line == f'{entry["name"]}: {entry["pred_class"]} ({entry["pred_score"]:.2f})'


def load_tool(repo):
    spec = importlib.util.spec_from_file_location('image_demo', repo / 'tools' / 'image_demo.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_network_that_comes_with_weights(network, repo, tmp_path, monkeypatch, capsys):
    """NAME IMAGE; the other way round is understood, too."""
    image = sorted((network('mmdet').data / 'val').glob('*.png'))[0]
    tool, expected = load_tool(repo), inference('spikeyolo_nuclei')(image, show_progress=False)[0]
    for number, words in enumerate((['spikeyolo_nuclei', str(image)], [str(image), 'spikeyolo_nuclei'])):
        out = tmp_path / str(number)
        monkeypatch.setattr('sys.argv', ['infer', *words, '--out-dir', str(out)])
        tool.main(tool.parse_args())
        assert json.loads((out / 'preds' / f'{image.stem}.json').read_text(encoding='utf-8')) == expected
        assert (out / 'vis' / f'{image.stem}.png').is_file()
    for words, message in (
        (['espike_cifar10', str(image)], "'espike_cifar10' comes without trained weights.*spikeyolo_nuclei"),
        (['spikeyolo_nuclei', str(image), '--engine', 'openvino'], 'mmspike://spikeyolo_nuclei is none'),
        (['spikeyolo_nuclei', str(tmp_path / 'none.png')], 'none.png does not exist'),
    ):
        monkeypatch.setattr('sys.argv', ['infer', *words, '--out-dir', str(tmp_path / 'x')])
        with pytest.raises(UserError, match=message):
            tool.main(tool.parse_args())
    monkeypatch.setattr('sys.argv', ['infer', 'spikeyolo_nuclei'])
    with pytest.raises(SystemExit):
        tool.parse_args()
    assert 'expected NAME IMAGE or IMAGE CONFIG CHECKPOINT, got spikeyolo_nuclei' in capsys.readouterr().err


def test_bad_input(network, run_tool, tmp_path):
    """A message instead of a stack trace."""
    net = network('mmpretrain')
    image = sorted((net.data / 'val').glob('*.png'))[0]
    broken = tmp_path / 'broken.png'
    broken.write_bytes(b'no image')
    wrong_key = change_config(net, tmp_path / 'wrong.py', model__backbone__neurn=dict(type='LIF'))
    cases = [
        ((tmp_path / 'none.png', *net.files()), 'none.png does not exist'),
        ((broken, *net.files()), 'cannot read .*broken.png as an image'),
        ((image, 'espike_cifar11', net.checkpoint), 'espike_cifar11.*Nearest names: espike_cifar10'),
        ((image, net.config, tmp_path / 'none.pth'), 'none.pth does not exist'),
        ((image, net.config, network('mmdet').checkpoint), 'of another architecture'),
        ((image, wrong_key, net.checkpoint), 'neurn'),
        ((image, *net.files(), '--spikes', 'backbone.stages.9'), "no stage 'backbone.stages.9'"),
        ((image, *net.files(), '--batch-size', 0), 'batch_size=0: expected 1 or more'),
    ]
    for arguments, message in cases:
        result = run_tool('image_demo.py', *arguments, '--out-dir', tmp_path / 'out')
        assert result.returncode == 1
        assert re.search(message, result.stderr), result.stderr
