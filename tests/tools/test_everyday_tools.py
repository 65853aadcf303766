"""The everyday tools with spiking models of all three hosts, each in a forked process, on the embedded shapes."""

import csv
import json
import pickle
import re

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from test_train_and_test import CONFIGS, REPO, fail, run, succeed

from mmspike.datasets.shapes import write_shapes

RATES = "custom_hooks = [dict(type='mmspike.FiringRateHook', interval=1)]\n"
BROWSE, FLOPS = 'analysis_tools/browse_dataset.py', 'analysis_tools/get_flops.py'
CONFUSION, PUBLISH = 'analysis_tools/confusion_matrix.py', 'model_converters/publish_model.py'


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp('data') / 'shapes', num_train=4, num_val=2, size=96)


def write_config(folder, host, more=''):
    path = folder / f'{host}.py'
    path.write_text(CONFIGS[host].replace('{base}', str(REPO / 'configs' / '_base_')) + more)
    return path


@pytest.fixture(scope='module')
def classifier(data, tmp_path_factory):
    """Folder with the config of a classifier and, in work, its training of two iterations with firing rates."""
    folder = tmp_path_factory.mktemp('classifier')
    path = write_config(folder, 'mmpretrain', RATES)
    succeed(folder, 'train.py', path, '--data-root', data, '--work-dir', folder / 'work')
    return folder


@pytest.mark.parametrize('host', CONFIGS)
def test_browse_dataset(host, tmp_path, data):
    path, out = write_config(tmp_path, host), tmp_path / 'out'
    more = ['--show-number', '2'] if host == 'mmpretrain' else []
    succeed(tmp_path, BROWSE, path, '--data-root', data, '--output-dir', out, '--not-show', *more)
    pictures = [path for path in out.rglob('*') if path.is_file()]
    assert len(pictures) == dict(mmdet=4, mmseg=4, mmpretrain=2)[host]
    images = data / ('classes/train' if host == 'mmpretrain' else 'train')
    assert all((images / path.relative_to(out)).is_file() for path in pictures)
    shapes = {np.asarray(Image.open(p)).shape[2] for p in pictures}
    assert shapes == {3} and all(np.asarray(Image.open(p)).std() > 5 for p in pictures)


def test_browse_dataset_explains(tmp_path, data):
    mmseg = write_config(tmp_path, 'mmseg')
    assert 'usage: ' in run(tmp_path, BROWSE).output and '--output-dir' in run(tmp_path, BROWSE, mmseg, '-h').output
    assert 'plot_events.py' in fail(tmp_path, BROWSE, REPO / 'configs' / 'spikformer_nmnist.py')
    assert 'nowhere' in fail(tmp_path, BROWSE, mmseg, '--data-root', tmp_path / 'nowhere')
    mine = write_config(tmp_path, 'mmseg', "default_scope = 'mine'\n")
    assert "default_scope of this one is 'mine'" in fail(tmp_path, BROWSE, mine)


def test_print_config(tmp_path, data):
    path, saved = write_config(tmp_path, 'mmseg'), tmp_path / 'out' / 'x.json'
    options = ['--data-root', data, '--cfg-options', 'model.decode_head.channels=16']
    output = succeed(tmp_path, 'misc/print_config.py', path, '--save-path', saved, *options)
    cfg = Config.fromfile(saved)
    assert "type='mmspike.SpikeResetHook'" in output and 'channels=16' in output
    assert cfg.model.decode_head.channels == 16 and cfg.test_dataloader.dataset.data_root == f'{data}/'
    assert '.py, .json or .yml' in fail(tmp_path, 'misc/print_config.py', path, '--save-path', 'x.txt')


def test_confusion_matrix_of_a_segmentor(tmp_path, data):
    """150 classes, where mmseg's own tool overflows. Labels count from 1, 0 is ignored; one pixel is predicted wrong."""
    root, predictions = tmp_path / 'root', tmp_path / 'predictions'
    for folder in (root / 'val', root / 'semantic' / 'val', predictions):
        for part in ('day', 'night'):
            (folder / part).mkdir(parents=True)
    labels = np.arange(151, dtype=np.uint8).repeat(2).reshape(2, 151)
    for name in ('day/a', 'night/a'):
        Image.fromarray(np.zeros((2, 151, 3), np.uint8)).save(root / 'val' / f'{name}.png')
        Image.fromarray(labels).save(root / 'semantic' / 'val' / f'{name}.png')
        Image.fromarray(np.maximum(labels, 1)).save(predictions / f'{name}.png')
    wrong = labels.clip(1)
    wrong[labels == 150] = [150, 3]
    Image.fromarray(wrong).save(predictions / 'night' / 'a.png')
    more = "metainfo = dict(classes=[f'c{i}' for i in range(150)], palette=[(i, i, i) for i in range(150)])\n"
    more += "val_dataloader['dataset']['metainfo'] = metainfo\ntest_dataloader = val_dataloader\n"
    path = write_config(tmp_path, 'mmseg', more)
    succeed(tmp_path, CONFUSION, path, predictions, tmp_path / 'out', '--data-root', root)
    with open(tmp_path / 'out' / 'confusion_matrix.csv') as file:
        head, *rows = list(csv.reader(file))
    matrix = np.array([row[1:] for row in rows], int)
    expected = 4 * np.eye(150, dtype=int)
    expected[149, [149, 2]] = 3, 1
    assert head[1:] == [row[0] for row in rows] == [f'c{i}' for i in range(150)] and (matrix == expected).all()
    assert (tmp_path / 'out' / 'confusion_matrix.png').stat().st_size > 10000

    arguments = [predictions, tmp_path / 'out', '--data-root', root]
    Image.fromarray(labels + 100).save(predictions / 'night' / 'a.png')
    assert 'night/a.png holds class 150, and the data set has 150 classes' in fail(tmp_path, CONFUSION, path, *arguments)
    (predictions / 'night' / 'a.png').unlink()
    assert 'night/a.png does not exist' in fail(tmp_path, CONFUSION, path, *arguments)


def test_confusion_matrix_of_a_detector(tmp_path, data):
    """The first image is found completely, with a box too much; in the second nothing is found."""
    annotations = json.loads((data / 'annotations' / 'instances_val.json').read_text())
    ids = [category['id'] for category in annotations['categories']]
    boxes, labels, counts = [], [], np.zeros((5, 5), int)
    for annotation in annotations['annotations']:
        label = ids.index(annotation['category_id'])
        if annotation['image_id'] == annotations['images'][0]['id']:
            x, y, w, h = annotation['bbox']
            boxes.append([x, y, x + w, y + h])
            labels.append(label)
            counts[label, label] += 1
        else:
            counts[label, 4] += 1
    boxes.append([0, 0, 1, 1])
    labels.append(3)
    counts[4, 3] += 1
    found = dict(bboxes=torch.tensor(boxes), labels=torch.tensor(labels), scores=torch.ones(len(labels)))
    nothing = dict(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long), scores=torch.zeros(0))
    path, pkl = write_config(tmp_path, 'mmdet'), tmp_path / 'x.pkl'
    pkl.write_bytes(pickle.dumps([dict(pred_instances=found), dict(pred_instances=nothing)]))
    succeed(tmp_path, CONFUSION, path, pkl, tmp_path / 'out', '--data-root', data)
    with open(tmp_path / 'out' / 'confusion_matrix.csv') as file:
        head, *rows = list(csv.reader(file))
    assert head == ['label', 'circle', 'rectangle', 'triangle', 'star', 'background']
    matrix = np.array([row[1:] for row in rows], int)
    assert (matrix == counts).all()
    pkl.write_bytes(pickle.dumps([dict(pred_instances=found)]))
    assert 'has 1 images, and the test set 2' in fail(tmp_path, CONFUSION, path, pkl, tmp_path / 'out', '--data-root', data)


def test_confusion_matrix_of_a_classifier(tmp_path, data, classifier):
    path, out = classifier / 'mmpretrain.py', tmp_path / 'cm.pkl'
    arguments = ['--data-root', data, '--out', out, '--show-path', tmp_path / 'cm.png']
    succeed(tmp_path, CONFUSION, path, classifier / 'work' / 'epoch_1.pth', *arguments)
    assert pickle.loads(out.read_bytes()).sum() == len(list((data / 'classes' / 'val').rglob('*.png')))
    assert (tmp_path / 'cm.png').stat().st_size > 5000
    torch.save(dict(state_dict={}), tmp_path / 'other.pth')
    assert 'of another architecture' in fail(tmp_path, CONFUSION, path, tmp_path / 'other.pth', *arguments)


@pytest.mark.parametrize('host', CONFIGS)
def test_get_flops(host, tmp_path, data):
    """T = 2 doubles what follows the first neuron. Against our own counter, which leaves norms out."""
    from mmspike.analysis.counter import OpCounter
    from mmspike.models.backbones import MetaSpikeFormer

    path = write_config(tmp_path, host, "model['backbone']['T'] = 2\n" if host != 'mmdet' else '')
    more = ['--num-images', '1', '--data-root', data] if host == 'mmdet' else ['--shape', '96']
    output = succeed(tmp_path, FLOPS, path, *more)
    flops, unit = re.search(r'Flops: ([\d.]+)([MG])', output).groups()
    flops = float(flops) * dict(M=1e6, G=1e9)[unit]
    assert re.search(r'Params: [\d.]+[KM]', output) and 'get_energy.py' in output
    if host == 'mmpretrain':  # backbone only
        backbone = MetaSpikeFormer(dict(dims=[8, 16, 32, 40], depths=(1, 1, 1, 1, 1)), T=2, out_indices=(3,)).eval()
        with torch.no_grad(), OpCounter(backbone) as counter:
            backbone(torch.rand(1, 3, 96, 96))
        macs = sum(record.macs for record in counter.layers.values())
        assert macs < flops < 1.3 * macs


def test_get_flops_refuses_event_frames(tmp_path):
    assert 'get_energy.py' in fail(tmp_path, FLOPS, REPO / 'configs' / 'spikformer_nmnist.py')


def test_logs_benchmark_and_comparison(tmp_path, data, classifier):
    path, work, speed = classifier / 'mmpretrain.py', classifier / 'work', tmp_path / 'speed.json'
    logs = 'analysis_tools/analyze_logs.py'
    succeed(tmp_path, logs, 'plot_curve', work, '--keys', 'loss', 'firing_rate/backbone.*', '--out', tmp_path / 'log.png')
    assert (tmp_path / 'log.png').stat().st_size > 10000
    assert "no scalar 'x'" in fail(tmp_path, logs, 'plot_curve', work, '--keys', 'x', '--out', tmp_path / 'log.png')
    assert ' s an iteration' in succeed(tmp_path, logs, 'cal_train_time', work)

    arguments = ['--data-root', data, '--num-images', 2, '--num-warmup', 1]
    succeed(tmp_path, PUBLISH, work / 'epoch_1.pth', tmp_path / 'published' / 'x')
    (published,) = (tmp_path / 'published').iterdir()
    assert 'images/s' in succeed(tmp_path, 'analysis_tools/benchmark.py', path, published, *arguments, '--json', speed)
    result = json.loads(speed.read_text())
    assert (
        result['images'] == 2 and 0 < result['milliseconds_least'] <= result['milliseconds'] <= result['milliseconds_largest']
    )
    assert result['images_per_second'] == pytest.approx(1000 / result['milliseconds'])

    energy = ['analysis_tools/get_energy.py', path, work / 'epoch_1.pth', '--data-root', data, '--num-images', 1]
    succeed(tmp_path, *energy, '--json', work / 'energy.json')
    table = tmp_path / 'table.csv'
    out = [table, tmp_path / 'table.md', tmp_path / 'plot.png']
    output = succeed(tmp_path, 'analysis_tools/compare.py', f'{work},{speed}', f'alone={speed}', '--out', *out)
    with open(table, newline='') as file:
        ours, alone = csv.DictReader(file)
    assert ours['run'] == 'work' and ours['parameters'] == alone['parameters'] == str(result['params'])
    assert float(ours['energy, mJ']) > 0 and alone['energy, mJ'] == '' and ours['accuracy/top1, last'] != ''
    assert out[1].read_text() in output and out[2].stat().st_size > 5000
    message = fail(tmp_path, 'analysis_tools/compare.py', speed, speed)
    assert 'runs of the same name: speed, speed' in message


def test_publish_model(tmp_path, classifier, data):
    checkpoint = torch.load(classifier / 'work' / 'epoch_1.pth', weights_only=False)
    name = 'head.fc.weight'
    trained = torch.full_like(checkpoint['state_dict'][name], 7.0)
    checkpoint['ema_state_dict'] = {f'module.{name}': trained, 'steps': torch.tensor(3)}
    checkpoint['meta']['dataset_meta'] |= dict(palette=np.array([[1, 2, 3]]), scale=np.float64(0.5), things=set('cab'))
    torch.save(checkpoint, tmp_path / 'ema.pth')
    for number in '12':
        output = succeed(tmp_path, PUBLISH, tmp_path / 'ema.pth', tmp_path / number / 'out.pth')
        assert 'Dropped: ema_state_dict, message_hub, optimizer' in output and 'Weights: their average' in output
    first, second = next((tmp_path / '1').iterdir()), next((tmp_path / '2').iterdir())
    assert first.name == second.name and re.fullmatch(r'out-[0-9a-f]{8}\.pth', first.name)
    content = torch.hub.load_state_dict_from_url(first.as_uri(), tmp_path / 'hub', check_hash=True, weights_only=True)
    assert content.keys() == {'meta', 'state_dict'}
    assert all(torch.equal(value, checkpoint['state_dict'][key]) for key, value in content['state_dict'].items())
    meta = content['meta']
    assert meta['dataset_meta']['classes'] and meta['dataset_meta']['palette'] == [[1, 2, 3]] and meta['epoch'] == 1
    assert meta['dataset_meta']['scale'] == 0.5 and meta['dataset_meta']['things'] == ['a', 'b', 'c']
    assert "default_scope = 'mmpretrain'" in meta['cfg'] and str(classifier) not in meta['cfg']
    assert "data_root='data/" in meta['cfg'] and str(data) not in meta['cfg']

    succeed(tmp_path, PUBLISH, tmp_path / 'ema.pth', tmp_path / '3' / 'out', '--no-ema', '--half')
    content = torch.load(next((tmp_path / '3').iterdir()), weights_only=True)
    assert (content['state_dict'][name] == 7).all()
    for key, value in content['state_dict'].items():
        given = checkpoint['state_dict'][key]
        assert value.dtype == (torch.float16 if given.dim() > 1 else given.dtype)
        assert key == name or torch.equal(value, given.to(value.dtype))
    message = fail(tmp_path, PUBLISH, classifier / 'work' / 'epoch_1.pth', tmp_path / 'x', '--no-ema')
    assert 'no averaged weights' in message
    assert 'does not exist' in fail(tmp_path, PUBLISH, 'nothing.pth', tmp_path / 'x')


def test_tensorboard(tmp_path, data):
    """Losses, metrics and firing rates arrive in TensorBoard, chosen on the command line."""
    accumulator = pytest.importorskip('tensorboard.backend.event_processing.event_accumulator')
    options = ['--data-root', data, '--work-dir', tmp_path / 'work']
    backend = ['--cfg-options', 'visualizer.vis_backends.0.type=TensorboardVisBackend']
    succeed(tmp_path, 'train.py', write_config(tmp_path, 'mmseg', RATES), *options, *backend)
    (events,) = (tmp_path / 'work').rglob('events.out.tfevents.*')
    scalars = accumulator.EventAccumulator(str(events.parent)).Reload()
    tags = set(scalars.Tags()['scalars'])
    rates = {tag for tag in tags if tag.startswith('firing_rate/backbone.')}
    assert {'loss', 'lr', 'mIoU'} <= tags and len(rates) > 5
    assert [event.step for event in scalars.Scalars('loss')] == [1, 2] == [e.step for e in scalars.Scalars(min(rates))]
    assert all(0 <= event.value <= 1 for rate in rates for event in scalars.Scalars(rate))
    assert not list((tmp_path / 'work').rglob('scalars.json'))


def test_the_documentation_has_every_tool():
    text = (REPO / 'docs' / 'tools.md').read_text()
    mentioned = set(re.findall(r'tools/([\w/]+\.(?:py|sh))', text))
    scripts = {str(path.relative_to(REPO / 'tools')) for path in (REPO / 'tools').rglob('*.[ps][yh]')}
    scripts -= {f'benchmarks/{path.name}' for path in (REPO / 'tools/benchmarks').glob('straightforward*.py')}
    scripts -= {'benchmarks/networks.py'}  # of benchmark.py, as those above
    scripts -= {f'benchmarks/gpu_{part}.py' for part in ('checks', 'demo', 'parts', 'tuning')}  # of gpu.py
    assert mentioned == {name for name in scripts if not name.startswith('dev/')}
