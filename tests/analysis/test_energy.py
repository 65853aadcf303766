"""From counts to numbers and files: formulas, JSON, CSV, the page, pictures, and the tools on a real configuration."""

import csv
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from PIL import Image
from torch import Tensor, nn

from mmspike.analysis import measure_energy, plots
from mmspike.analysis.energy import activation_bits
from mmspike.analysis.html import to_html
from mmspike.analysis.report import load_report, to_text, write_csv, write_json
from mmspike.deploy.layers import BinarySteps
from mmspike.models.layers import binarise, set_weight_bits
from mmspike.models.neurons import SFA


class Net(BaseModel):
    """A convolution on the image, four-level neurons, a convolution on spikes, both 2 -> 2 channels on 4 x 4."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict(dict(first=nn.Conv2d(2, 2, 1), neuron=SFA(4), second=nn.Conv2d(2, 2, 3, padding=1)))

    def forward(self, inputs: Tensor, mode: str = 'tensor') -> Tensor:
        b = self.backbone
        return b['second'](b['neuron'](b['first'](inputs)[None])[0])


class BinaryNet(Net):
    def __init__(self) -> None:
        super().__init__()
        binarise(self.backbone['second'])


def batches(n: int) -> list[dict]:
    return [dict(inputs=torch.randn(1, 2, 4, 4)) for _ in range(n)]


@pytest.fixture
def silent_but_one() -> Net:
    """Channel 0 of the neuron counts 2 everywhere, channel 1 is silent."""
    net = Net()
    with torch.no_grad():
        net.backbone['first'].weight.zero_()
        net.backbone['first'].bias.copy_(torch.tensor([2.0, -1.0]))
    return net


@pytest.mark.parametrize('preset, mac, ac', [('fp32', 4.6, 0.9), ('fp16', 1.5, 0.4), ('int8', 0.23, 0.03)])
def test_formula_and_exact_energy_by_hand(silent_but_one, preset, mac, ac) -> None:
    report = measure_energy(silent_but_one, batches(3), preset)
    first, second = report.layers
    assert (first['fed'], second['fed']) == ('floats', 'integers')
    dense1, dense2 = 16 * 4, 16 * 4 * 9
    # mean count 1; along an axis of 4 the inner positions reach 3 outputs, the outer ones 2
    exact = 2 * (2 + 3 + 3 + 2) ** 2 * 2
    assert (second['firing_rate'], second['nonzero'], second['max_count']) == (1.0, 0.5, 2)
    assert (second['sops'], second['exact_sops']) == (dense2, exact)
    assert report.total['energy_mj'] == pytest.approx((mac * dense1 + ac * dense2) * 1e-9)
    assert report.total['exact_energy_mj'] == pytest.approx((mac * dense1 + ac * exact) * 1e-9)
    assert report.total['twin_energy_mj'] == pytest.approx(mac * (dense1 + dense2) * 1e-9)
    assert report.total['ratio'] == pytest.approx(mac * (dense1 + dense2) / (mac * dense1 + ac * dense2))
    assert report.float_fed == ['backbone.first (conv)']
    assert [s['name'] for s in report.stages] == ['backbone']
    assert report.neurons[0]['firing_rate'] == 1.0


def test_quantised_twin_by_hand(silent_but_one) -> None:
    quantised = measure_energy(silent_but_one, batches(1), quantised=True).quantised
    dense1, dense2, exact = 64, 576, 400
    assert quantised['bits'] == [3]
    assert quantised['twin_energy_mj'] == pytest.approx((0.23 * dense1 + (0.2 * 3 / 8 + 0.03) * dense2) * 1e-9)
    assert quantised['energy_mj'] == pytest.approx((0.23 * dense1 + 0.03 * exact) * 1e-9)


def test_the_count_of_spikeyolo_by_hand(silent_but_one) -> None:
    """The image's convolution at 0.9 x 4.6 pJ a MAC, the other by the formula."""
    report = measure_energy(silent_but_one, batches(1), spikeyolo=True)
    assert report.spikeyolo['energy_mj'] == pytest.approx((0.9 * 4.6 * 64 + 0.9 * 576) * 1e-9)
    assert report.spikeyolo['twin_energy_mj'] == report.total['twin_energy_mj']
    assert "As SpikeYOLO's authors count (layers that floats feed at 4.14 pJ a MAC)" in to_text(report)
    assert measure_energy(silent_but_one, batches(1)).spikeyolo is None


def test_bits() -> None:
    assert [activation_bits(T, D) for T, D in ((1, 1), (4, 1), (1, 4), (1, 8), (4, 4), (1, 7), (1, 15))] == [
        1,
        3,
        3,
        4,
        5,
        3,
        4,
    ]


def test_time_steps_cost_the_twin_once() -> None:
    class InTime(Net):
        def forward(self, inputs, mode='tensor'):
            b = self.backbone
            s = b['neuron'](b['first'](inputs)[None].expand(4, -1, -1, -1, -1))
            return b['second'](s.flatten(0, 1)).unflatten(0, (4, 1)).mean(0)

    torch.manual_seed(3)
    once, four = Net(), InTime()
    four.load_state_dict(once.state_dict())
    images = batches(2)
    a, b = measure_energy(once, images), measure_energy(four, images)
    assert a.total['twin_energy_mj'] == b.total['twin_energy_mj']
    assert b.layers[1]['steps'] == 4
    assert b.layers[1]['exact_sops'] == 4 * a.layers[1]['exact_sops'] > 0
    assert b.layers[1]['firing_rate'] == a.layers[1]['firing_rate']


def test_errors(silent_but_one) -> None:
    with pytest.raises(ValueError, match="unknown energy preset 'fp8'"):
        measure_energy(silent_but_one, batches(1), 'fp8')
    with pytest.raises(ValueError, match='0 images'):
        measure_energy(silent_but_one, [])
    expanded = nn.Sequential(BinarySteps(SFA(divisor=1)))
    with pytest.raises(ValueError, match=r'0 sends binary steps: measure the network before expand\(\)'):
        measure_energy(expanded, [])


def test_training_mode_is_put_back(silent_but_one) -> None:
    assert silent_but_one.train().training
    measure_energy(silent_but_one, batches(1))
    assert silent_but_one.training


@pytest.fixture
def report(silent_but_one):
    pytest.importorskip('spikingjelly')
    report = measure_energy(silent_but_one, batches(1), memory=True, quantised=True)
    report.info = dict(config='a/net.py', checkpoint=None, metric=dict(name='AP', value=31.5))
    return report


def test_files(report, tmp_path) -> None:
    write_json(report, tmp_path / 'r.json')
    write_csv(report, tmp_path / 'r.csv')
    data = load_report(tmp_path / 'r.json')
    assert data['total'] == report.total
    assert data['layers'] == report.layers
    assert data['memory']['energy_mj'] == pytest.approx(sum(data['memory']['components_mj'].values()))
    assert data['formulas'] and 'RoIAlign' in data['not_counted']
    rows = list(csv.DictReader((tmp_path / 'r.csv').open()))
    assert [r['name'] for r in rows] == ['backbone.first', 'backbone.second']
    assert float(rows[1]['exact_sops']) == 400
    (tmp_path / 'other.json').write_text('{"layers": []}')
    with pytest.raises(ValueError, match='no energy report of format 1'):
        load_report(tmp_path / 'other.json')
    (tmp_path / 'text.json').write_text('hello')
    with pytest.raises(ValueError, match='is no JSON'):
        load_report(tmp_path / 'text.json')


def test_text_names_what_matters(report) -> None:
    text = to_text(report)
    assert text.endswith('float-fed: 1 of 2 operations\n- backbone.first (conv)')
    assert 'No unknown operation on floats.' in text
    assert re.search(r'^backbone\.second +conv +integers +1 +576 +1\.0000 +50\.0% +576 +400 ', text, re.M)
    assert 'Quantised twin (3 bit activations' in text
    report.unknown.append(dict(op='mylib::magic', module='neck', calls=1, elements=5))
    assert '- mylib::magic in neck: 5' in to_text(report)


class _Elements(HTMLParser):
    """Tags, in order, and whether every one that needs it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.tags, self.open, self.links = [], [], []

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ('src', 'href') and not v.startswith('data:')]
        if tag not in ('meta', 'img', 'br'):
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        if self.open[-1] != tag and self.open[-1] in ('li',):
            self.open.pop()
        assert self.open.pop() == tag


def page_of(report) -> str:
    maps = {'backbone.neuron': np.arange(16.0, dtype=np.float32).reshape(4, 4), 'silent': np.zeros((4, 4), np.float32)}
    return to_html(report, np.zeros((4, 4, 3), np.uint8), maps)


def test_page_is_whole_and_self_contained(report) -> None:
    report.layers[0]['name'] = 'backbone.<first>'
    page = page_of(report)
    parser = _Elements()
    parser.feed(page)
    assert parser.open == []
    assert parser.links == [], 'nothing is loaded from elsewhere'
    assert parser.tags.count('img') == 3
    assert 'an accumulate. Config: a/net.py. AP: 31.5.</p>' in page
    assert '<first>' not in page and 'backbone.&lt;first&gt;' in page
    assert 'http' not in page


def test_page_sorts_in_a_browser(report, tmp_path) -> None:
    browser = shutil.which('chromium') or shutil.which('google-chrome')
    if browser is None:
        pytest.skip('needs chromium')
    probe = """<script>
    const head = [...document.querySelectorAll('#layers th')], names = () =>
      [...document.querySelectorAll('#layers tbody tr')].map(r => r.cells[0].textContent);
    const seen = [names()];
    const click = title => { head.find(h => h.textContent === title).click(); seen.push(names()) };
    click('exact SOPs'); click('exact SOPs'); click('layer'); click('layer'); click('firing rate');
    const bar = document.querySelector('#rates i').getBoundingClientRect().width;
    const pictures = [...document.images].every(i => i.complete && i.naturalWidth > 0);
    document.title = JSON.stringify({seen, bar, pictures});
    </script>"""
    path = tmp_path / 'page.html'
    path.write_text(page_of(report).replace('</body>', f'{probe}</body>'), encoding='utf-8')
    options = '--headless --no-sandbox --disable-gpu --dump-dom'.split()
    # it would call home
    options += '--disable-background-networking --disable-component-update --disable-sync --disable-quic --no-first-run'.split()
    command = [browser, *options, f'--user-data-dir={tmp_path}/profile', path.as_uri()]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    result = json.loads(re.search('<title>(.*)</title>', out)[1])
    first, second = 'backbone.first', 'backbone.second'
    up, down = [first, second], [second, first]
    assert result['seen'] == [up, down, up, up, down, down]
    assert result['bar'] > 100
    assert result['pictures']


def test_a_network_that_gives_nan_has_no_energy(silent_but_one) -> None:
    net = Net()
    with torch.no_grad():
        net.backbone['first'].bias[1] = float('nan')
    with pytest.raises(ValueError, match=r'backbone.neuron gave 16 of 32 values that are not finite'):
        measure_energy(net, batches(1))
    assert not any(m._forward_hooks for m in net.modules()) and net.training


def test_plots_of_reports(report, tmp_path) -> None:
    write_json(report, tmp_path / 'r.json')
    data = load_report(tmp_path / 'r.json')
    plots.plot_rates(data, tmp_path / 'rates.png')
    plots.plot_tradeoff({'a': data, 'b': data}, tmp_path / 'tradeoff.png')
    for file in ('rates.png', 'tradeoff.png'):
        assert np.asarray(Image.open(tmp_path / file).convert('L')).std() > 0
    with pytest.raises(ValueError, match='the report has no neuron'):
        plots.plot_rates(data | dict(neurons=[]), tmp_path / 'x.png')
    with pytest.raises(ValueError, match='no metric in b'):
        plots.plot_tradeoff({'a': data, 'b': data | dict(info={})}, tmp_path / 'x.png')
    with pytest.raises(ValueError, match='share one metric'):
        other = data | dict(info=dict(metric=dict(name='mIoU', value=1.0)))
        plots.plot_tradeoff({'a': data, 'b': other}, tmp_path / 'x.png')


def test_tools_on_a_classifier(run_tool, repo, shared, tmp_path) -> None:
    config = tmp_path / 'small.py'
    config.write_text(
        f"_base_ = '{repo / 'configs' / 'espike_cifar10.py'}'\n"
        'model = dict(backbone=dict(arch=dict(_delete_=True, dims=(8, 16, 16, 16), num_heads=2)), head=dict(in_channels=16))'
    )
    data = ['--data-root', shared / 'data' / 'cifar10']
    files = [tmp_path / x / f'r.{x}' for x in ('json', 'csv', 'html')]  # folders that are not there yet
    outputs = [x for f in files for x in (f'--{f.suffix[1:]}', f)]
    torch.manual_seed(0)
    result = run_tool('analysis_tools/get_energy.py', config, *data, '--num-images', 2, *outputs, '--metric', 'top-1=90')
    assert result.returncode == 0, result.stderr
    assert 'float-fed: 1 of ' in result.stdout and '- backbone.stem.0.conv.conv (conv)' in result.stdout
    assert 'No unknown operation on floats.' in result.stdout
    assert 'are those of an untrained network' in result.stdout
    report = load_report(files[0])
    assert [s['name'] for s in report['stages']] == ['backbone', 'head']
    assert report['images'] == 2
    assert report['info']['metric'] == dict(name='top-1', value=90.0)
    assert files[1].read_text().count('\n') == len(report['layers']) + 1
    assert files[2].read_text().count('<img') == 6  # the image and five stages
    folded = tmp_path / 'folded.json'
    torch.manual_seed(0)
    result = run_tool(
        'analysis_tools/get_energy.py', config, *data, '--num-images', 2, '--deployed', '--spikeyolo', '--json', folded
    )
    assert result.returncode == 0 and '- backbone.stem.0.conv.conv (conv)' in result.stdout, result.stderr
    folded = load_report(folded)
    assert folded['spikeyolo']['energy_mj'] < folded['total']['energy_mj'] and report['spikeyolo'] is None
    assert folded['info']['deployed'] and not report['info']['deployed'] and not folded['unknown']
    assert len(folded['layers']) == len(report['layers'])
    assert folded['total']['macs'] == report['total']['macs']
    assert folded['total']['exact_energy_mj'] == pytest.approx(report['total']['exact_energy_mj'], rel=0.02)
    result = run_tool('analysis_tools/get_energy.py', config, *data, '--keep-depthwise')
    assert result.returncode and 'add --deployed' in result.stderr
    result = run_tool('analysis_tools/plot_spikes.py', 'attention', config, *data, '-o', tmp_path / 'a.png')
    assert result.returncode == 0 and (tmp_path / 'a.png').stat().st_size > 1000
    result = run_tool('analysis_tools/plot_spikes.py', 'tradeoff', files[0], '-o', tmp_path / 't.png')
    assert result.returncode == 0 and (tmp_path / 't.png').stat().st_size > 1000


def test_savings_of_binary_weights(silent_but_one) -> None:
    net = BinaryNet()
    net.load_state_dict(silent_but_one.state_dict())
    report, plain = measure_energy(net, batches(2)), measure_energy(silent_but_one, batches(2))
    exact = 2 * (2 + 3 + 3 + 2) ** 2 * 2  # as above: the spikes are those of the plain network
    assert not report.unknown and report.layers[1]['fed'] == 'integers' and report.layers[1]['exact_sops'] == exact
    expected = dict(
        bits=1,
        layers=1,
        weights=36,
        bytes=36 / 8 + 4 * 2,
        full_bytes=4 * 36,
        energy_mj=pytest.approx(0.1 * exact * 1e-9),
        full_energy_mj=pytest.approx(0.9 * exact * 1e-9),
    )
    assert report.low_bit == [expected] and report.total == plain.total and plain.low_bit == []
    set_weight_bits(net.backbone['second'], 4)  # a layer of one bit stays one
    set_weight_bits(silent_but_one.backbone['second'], 4)
    (four,) = measure_energy(silent_but_one, batches(2)).low_bit
    assert four['bits'] == 4 and four['bytes'] == 36 / 2 + 4 * 2 and four['energy_mj'] == expected['energy_mj']
    assert 'Weights of 1 bit: 1 layers, 36 weights' in to_text(report)
    assert 'Weights of' not in to_text(plain)


def test_reports_that_are_not_there(run_tool, tmp_path) -> None:
    missing = tmp_path / 'none.json'
    for kind in ('rates', 'tradeoff'):
        result = run_tool('analysis_tools/plot_spikes.py', kind, missing, '-o', tmp_path / 'x.png')
        assert result.returncode == 1 and f'{missing}: No such file' in result.stderr


def test_reports_of_one_name_in_two_folders_stay_apart(run_tool, monkeypatch) -> None:
    drawn: dict = {}
    monkeypatch.setattr('mmspike.analysis.report.load_report', lambda path: dict(file=path))
    monkeypatch.setattr('mmspike.analysis.plots.plot_tradeoff', lambda reports, *args, **kwargs: drawn.update(reports))
    run_tool('analysis_tools/plot_spikes.py', 'tradeoff', 'a/energy.json', 'b/energy.json', '-o', 'x.png')
    assert drawn == {'a/energy': dict(file='a/energy.json'), 'b/energy': dict(file='b/energy.json')}


def test_a_page_that_fails_does_not_lose_the_numbers(run_tool, repo, shared, tmp_path, monkeypatch) -> None:
    def fail(*args):
        raise RuntimeError('no page')

    monkeypatch.setattr('mmspike.analysis.html.to_html', fail)
    config = tmp_path / 'small.py'
    config.write_text(
        f"_base_ = '{repo / 'configs' / 'espike_cifar10.py'}'\n"
        'model = dict(backbone=dict(arch=dict(_delete_=True, dims=(8, 16, 16, 16), num_heads=2)), head=dict(in_channels=16))'
    )
    options = ['--data-root', shared / 'data' / 'cifar10', '--num-images', 1, '--device', 'cpu']
    with pytest.raises(RuntimeError, match='no page'):
        run_tool('analysis_tools/get_energy.py', config, *options, '--json', tmp_path / 'r.json', '--html', tmp_path / 'r.html')
    assert load_report(tmp_path / 'r.json')['images'] == 1
