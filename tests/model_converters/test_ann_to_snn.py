"""Ordinary networks turned into integer-spiking ones: places, calibration, refusals, and the tool."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image
from torch import nn

from mmspike.config.loading import build_model, random_batch
from mmspike.deploy import audit, expand_converted
from mmspike.deploy.activations import ConversionError
from mmspike.deploy.conversion import (
    InTurn,
    _columns,
    calibrate,
    convert,
    described,
    find,
    insert,
    left_relus,
    neurons_of,
    shorten_training,
)
from mmspike.deploy.forwards import forwards, regions
from mmspike.models.neurons import ClipFloorShift


class Block(nn.Module):
    """A residual block with one ReLU for two calls, as ResNet's, behind a convolution with a ReLU as a function."""

    def __init__(self, last=None):
        super().__init__()
        self.stem, self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.relu = nn.ReLU(inplace=True)
        self.last = last or nn.Identity()

    def forward(self, x):
        x = F.relu(self.stem(x))
        return self.last(self.relu(self.conv2(self.relu(self.conv1(x))) + x))


class Network(nn.Module):
    def __init__(self, last=None):
        super().__init__()
        self.block = Block(last)

    def forward(self, x):
        return self.block(x)


def converted(levels, seed=0):
    torch.manual_seed(seed)
    model, images = Network(), [torch.randn(2, 3, 8, 8) for _ in range(3)]
    reference = [model(x).detach() for x in images]
    sites = find(model, [lambda x=x: model(x) for x in images])
    network = convert(model, sites, levels)
    return network, sites, images, reference


def test_every_call_has_a_neuron_of_its_own():
    network, sites, images, _ = converted(4)
    assert [(s.owner, s.names, s.calls) for s in sites] == [('block.stem', (), 1), ('block', ('relu',), 2)]
    assert [s.label(1) for s in sites] == ['behind block.stem', 'block.relu (call 2)']
    assert isinstance(network.block.relu, InTurn)
    neurons = [m for m in network.modules() if isinstance(m, ClipFloorShift)]
    assert len(neurons) == 3 and len({m.threshold.item() for m in neurons}) == 3
    block, x = network.block, images[0]
    stem = block.stem.neuron(F.conv2d(x, block.stem.weight, block.stem.bias, padding=1))
    first, second = block.relu.neurons
    expected = second(block.conv2(first(block.conv1(stem))) + stem)
    for _ in range(2):  # a second forward begins with the first neuron again
        assert torch.equal(network(x), expected)
    rebuilt = insert(Network(), described(sites), 4)
    rebuilt.load_state_dict(network.state_dict())
    assert torch.equal(rebuilt(x), expected)


def test_more_levels_are_nearer():
    errors = []
    for levels in (2, 8, 64):
        network, _, images, reference = converted(levels)
        errors.append(sum((network(x) - y).square().mean().item() for x, y in zip(images, reference, strict=True)))
    assert errors[1] < 0.2 * errors[0] and errors[2] < 0.05 * errors[1]


def test_calibration_keeps_the_means_of_channels():
    """Neuron by neuron, on what the ones before it send."""
    network, sites, images, _ = converted(4)
    calibrate(network, sites, [lambda x=x: network(x) for x in images])
    seen = {}
    handles = [
        neuron.register_forward_hook(lambda module, args, out: seen.setdefault(module, []).append((args[0], out)))
        for neuron, _, _ in neurons_of(network, sites)
    ]
    with torch.no_grad():
        for x in images:
            network(x)
    for handle in handles:
        handle.remove()
    off = []
    for neuron, site, call in neurons_of(network, sites):
        x, out = (torch.cat([pair[i] for pair in seen[neuron]]).double() for i in range(2))
        now = (out.mean((0, 2, 3)) - site.means(call)).abs()
        start, neuron.start = neuron.start, None
        without = (neuron(x).mean((0, 2, 3)) - site.means(call)).abs()
        neuron.start = start
        assert now.sum() < without.sum() and neuron.start.any() and len(neuron.threshold.unique()) > 1
        off.append((now.sum().item(), without.sum().item()))
    assert sum(now for now, _ in off) < 0.5 * sum(without for _, without in off)


def test_steps_and_counts_are_equal_bit_by_bit():
    network, sites, images, _ = converted(5)
    calibrate(network, sites, [lambda: network(images[0])])

    def run(model):
        return model(images[1])

    steps, counts = expand_converted(network, run), expand_converted(network, run, binary=False)
    fed = []
    handle = steps.block.conv2.sums.register_forward_pre_hook(lambda module, args: fed.append(args[0]))
    x = torch.randn(4, 3, 8, 8)
    y = steps(x)
    handle.remove()
    assert fed[0].shape == (5 * 4, 4, 8, 8) and set(fed[0].unique().tolist()) == {0, 1}
    assert torch.equal(y, counts(x))
    torch.testing.assert_close(y, network(x), rtol=1e-4, atol=1e-5)
    assert audit(steps, lambda: steps(x)).float_fed == ['block.stem (conv)']
    with pytest.raises(ValueError, match='convert it with ann_to_snn.py'):
        expand_converted(Network(), run)


class Mixing(nn.Module):
    """Neurons whose spikes are read in groups, shuffled, by a transposed convolution, and place by place by a linear layer."""

    def __init__(self):
        super().__init__()
        convs = (nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1))
        self.blocks = nn.ModuleList(nn.Sequential(conv, nn.ReLU()) for conv in convs)
        self.up, self.fc = nn.ConvTranspose2d(4, 4, 2, groups=2), nn.Linear(4 * 9, 2)

    def forward(self, x):
        x = self.blocks[1](self.blocks[0](x))
        x = self.blocks[2](x.unflatten(1, (2, 2)).transpose(1, 2).flatten(1, 2))
        return self.fc(self.blocks[3](self.up(x)).flatten(1))


def test_channels_have_thresholds_where_weights_read_them_apart():
    torch.manual_seed(0)
    model, x = Mixing(), torch.randn(2, 3, 4, 4)
    sites = find(model, [lambda: model(x)])
    network = convert(model, sites, 3)
    calibrate(network, sites, [lambda: network(x)])
    assert [site.per_channel for site in sites] == [[True], [False], [True], [True]]
    assert [m.threshold.dim() for m, _, _ in neurons_of(network, sites)] == [1, 0, 1, 1]
    assert audit(network, lambda: network(x)).float_fed == ['blocks.0.0 (conv)', 'blocks.3.0 (conv)']
    rebuilt = insert(Mixing(), described(sites), 3)
    rebuilt.load_state_dict(network.state_dict())
    steps, counts = (expand_converted(rebuilt, lambda m: m(x), binary) for binary in (True, False))
    assert torch.equal(steps(x), counts(x))
    torch.testing.assert_close(counts(x), network(x), rtol=1e-5, atol=1e-6)


def test_the_training_that_follows():
    optimizer = dict(type='AdamW', lr=0.004, weight_decay=0.05)
    cfg = Config(dict(train_cfg=dict(max_epochs=24, val_interval=6), optim_wrapper=dict(optimizer=dict(optimizer))))
    shorten_training(cfg)
    assert (cfg.train_cfg.max_epochs, cfg.train_cfg.val_interval, cfg.optim_wrapper.optimizer.lr) == (2, 2, 0.001)
    assert cfg.param_scheduler[0].end == 2 and cfg.param_scheduler[0].convert_to_iter_based
    assert cfg.optim_wrapper.paramwise_cfg.custom_keys['.threshold'].decay_mult == 0
    cfg = Config(dict(train_cfg=dict(max_iters=400), optim_wrapper=dict(optimizer=dict(optimizer), constructor='X')))
    shorten_training(cfg)
    assert cfg.train_cfg.max_iters == cfg.param_scheduler[0].end == 40 and 'paramwise_cfg' not in cfg.optim_wrapper
    for schedule in (dict(type='OneCycleLR', eta_max=0.2), [dict(type='OneCycleLR', eta_max=0.2)]):
        optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
        cfg = Config(dict(train_cfg=dict(max_epochs=3), optim_wrapper=optim_wrapper, param_scheduler=schedule))
        shorten_training(cfg)
        assert cfg.train_cfg.max_epochs == 1 and 'paramwise_cfg' not in cfg.optim_wrapper
        assert cfg.optim_wrapper.optimizer.lr == 0.25 * 0.2
    cfg = Config(dict(model=dict()))
    shorten_training(cfg)
    assert cfg.to_dict() == dict(model=dict())


def test_the_converted_network_is_spike_driven():
    network, _, images, _ = converted(4)
    report = audit(network, lambda: network(images[0]))
    assert report.float_fed == ['block.stem (conv)'] and [r.levels for r in report.operations[1:]] == [4, 4]
    # spikes and a shortcut of spikes: their sum is a membrane
    values = network(images[0]) / (network.block.relu.neurons[1].threshold / 4)
    torch.testing.assert_close(values, values.round(), rtol=0, atol=1e-4)


class Gate(nn.Module):
    def forward(self, x):
        return x * x.sigmoid()


class Late(nn.Module):
    def forward(self, x):
        return F.relu(x + 1)


@pytest.mark.parametrize(
    ('last', 'message'),
    [
        (nn.GELU(), r'GELU in block.last \(GELU\)'),
        (nn.Softmax(1), r'a softmax in block.last \(Softmax\)'),
        (nn.Sequential(nn.Identity(), nn.GroupNorm(2, 4)), r'a group norm, whose statistics .* block.last.1 \(GroupNorm\)'),
        (Gate(), r'a sigmoid in block.last \(Gate\)'),
        (Late(), 'a ReLU that block.last calls as a function on what is no output of a module'),
    ],
    ids=lambda x: type(x).__name__ if isinstance(x, nn.Module) else '',
)
def test_what_cannot_be_converted_is_named(last, message):
    model = Network(last)
    with pytest.raises(ConversionError, match=message):
        find(model, [lambda: model(torch.randn(1, 3, 8, 8))])


def test_nothing_to_convert():
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    with pytest.raises(ConversionError, match='no ReLU'):
        find(model, [lambda: model(torch.randn(1, 3, 8, 8))])
    with pytest.raises(ValueError, match='per_channel needs the number of channels'):
        ClipFloorShift(4, per_channel=True)


RESNET = dict(type='ResNet', depth=18, norm_cfg=dict(type='BN'), stem_channels=8, base_channels=8)
MEAN = dict(mean=[120.0] * 3, std=[60.0] * 3)


def mask_rcnn():
    cfg = Config.fromfile('configs/_base_/models/mask_rcnn_metaspike_small_fpn.py').model
    cfg.backbone = RESNET | dict(out_indices=(0, 1, 2))
    cfg.neck.update(type='FPN', in_channels=[8, 16, 32], out_channels=8)
    cfg.rpn_head.update(in_channels=8, feat_channels=8)
    roi = cfg.roi_head
    roi.bbox_head.update(in_channels=8, fc_out_channels=16)
    roi.mask_head.update(in_channels=8, conv_out_channels=8)
    roi.bbox_roi_extractor.out_channels = roi.mask_roi_extractor.out_channels = 8
    cfg.test_cfg.rpn.max_per_img = 10
    return cfg


HOSTED = dict(
    mmpretrain=lambda: dict(
        type='ImageClassifier',
        data_preprocessor=dict(MEAN),
        backbone=RESNET | dict(out_indices=(3,)),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=3, in_channels=64),
    ),
    mmseg=lambda: dict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', size=(64, 64), **MEAN),
        backbone=RESNET,
        decode_head=dict(
            type='FCNHead', in_channels=64, channels=8, num_classes=3, norm_cfg=dict(type='BN'), concat_input=False
        ),
        auxiliary_head=dict(
            type='FCNHead', in_channels=32, in_index=2, channels=8, num_classes=3, num_convs=1, concat_input=False
        ),
        test_cfg=dict(mode='whole'),
    ),
    mmdet=mask_rcnn,
)
# stem, two in each of eight blocks, and those of the heads
NEURONS = dict(mmpretrain=17, mmseg=17 + 2, mmdet=17 + 1 + 2 + 3)


# the image, means of spikes over places, and in a detector what reads levels of the pyramid, which are sums
FLOATS = dict(
    mmpretrain=['backbone.conv1 (conv)', 'head.fc (linear)'],
    mmseg=['backbone.conv1 (conv)'],
    mmdet=[
        'backbone.conv1 (conv)',
        *(f'neck.fpn_convs.{i}.conv (conv)' for i in range(3)),
        'roi_head.bbox_head.shared_fcs.0 (linear)',
        'roi_head.mask_head.convs.0.conv (conv)',
        'rpn_head.rpn_conv (conv)',
    ],
)


def test_places_are_drawn_by_lot():
    """Every eighth place of regions of 8 x 8 would be one column of them."""
    x = torch.arange(8.0).expand(64, 2, 8, 8)
    assert len(_columns(x, 512).unique()) == 8 and _columns(x, 512).shape == (2, 512)
    assert torch.equal(_columns(x, 4096), x.movedim(1, 0).flatten(1).double())


@pytest.mark.parametrize('scope', HOSTED)
def test_networks_of_the_hosts(scope, repo, monkeypatch):
    monkeypatch.chdir(repo)
    pytest.importorskip(scope)
    init_default_scope(scope)
    torch.manual_seed(0)
    model = MODELS.build(HOSTED[scope]())
    batch = random_batch(scope, 3, (64, 64))
    prepared = model.data_preprocessor(batch, False)

    given = regions(model, prepared)
    run = forwards(model, [prepared], [given])[0]
    read = []
    if scope == 'mmdet':
        extractor = model.roi_head.mask_roi_extractor
        extractor.register_forward_pre_hook(lambda module, args: read.append(args[1][:, 1:]))

    sites = find(model, [run])
    network = convert(model, sites, 8)
    assert sum(isinstance(m, ClipFloorShift) for m in network.modules()) == NEURONS[scope]
    assert left_relus(network) == (['auxiliary_head.convs.0.activate'] if scope == 'mmseg' else [])
    with torch.no_grad():
        report = audit(network, run)
    assert sorted(report.float_fed) == FLOATS[scope]
    # neurons do not change the regions that are read: first of all what the trained network finds
    assert given is None or all(torch.equal(boxes, given[0].bboxes[:100]) for boxes in read)
    assert len(read) == (2 if scope == 'mmdet' else 0) and 'predict' not in vars(getattr(model, 'rpn_head', model))


def test_the_tool(tmp_path, repo, run_tool):
    pytest.importorskip('mmpretrain')
    for i in range(6):
        folder = tmp_path / 'data' / ('train' if i < 4 else 'val') / 'ab'[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.RandomState(i).randint(0, 255, (32, 32, 3), np.uint8)).save(folder / f'{i}.png')
    shared = dict(
        _base_=[f'{repo}/configs/_base_/datasets/cifar10_folders.py', f'{repo}/configs/_base_/runtime_mmpretrain.py'],
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        **dict.fromkeys(['val_dataloader', 'val_evaluator']),
        test_cfg=dict(),
    )
    good = HOSTED['mmpretrain']()
    good['backbone'] = RESNET | dict(num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(1,))
    good['head']['in_channels'] = 16
    bad = good | dict(backbone=dict(type='MobileNetV3', arch='small_050'), head=dict(good['head'], in_channels=288))

    def convert_by_tool(name, model):
        config, checkpoint = tmp_path / f'{name}.py', tmp_path / f'{name}.pth'
        config.write_text('\n'.join(f'{key} = {value!r}' for key, value in dict(shared, model=model).items()))
        init_default_scope('mmpretrain')
        torch.save(dict(state_dict=MODELS.build(model).state_dict()), checkpoint)
        options = ('-o', tmp_path / f'{name}_out', '--levels', 4, '--images', 2, '--device', 'cpu')
        tool = 'model_converters/ann_to_snn.py'
        return run_tool(tool, config, checkpoint, *options, '--data-root', tmp_path / 'data')

    done = convert_by_tool('good', good)
    assert done.returncode == 0 and 'backbone.relu: neuron of D = 4' in done.stdout, done.stderr
    cfg = Config.fromfile(tmp_path / 'good_out' / 'converted.py')
    network = build_model(cfg, str(tmp_path / 'good_out' / 'converted.pth'), 'cpu')
    assert cfg.load_from == str(tmp_path / 'good_out' / 'converted.pth')
    neurons = [m for m in network.modules() if isinstance(m, ClipFloorShift)]
    assert len(neurons) == 9 and all(m.levels == 4 and m.threshold.min() != 1 for m in neurons)
    assert all(m.threshold.numel() > 1 for m in neurons)
    loaders = [f'{part}_dataloader' for part in ('train', 'test')]
    options = [f'{loader}.{key}' for loader in loaders for key in ('num_workers=0', 'persistent_workers=False', 'batch_size=4')]
    work = tmp_path / 'work'
    given = ('--work-dir', work, '--cfg-options', *options)
    # it is tested as it is
    done = run_tool('test.py', tmp_path / 'good_out' / 'converted.py', tmp_path / 'good_out' / 'converted.pth', *given)
    assert done.returncode == 0, done.stderr
    pictures = [np.array(Image.open(path)) for path in sorted((tmp_path / 'data' / 'val').glob('*/*'))]
    batch = dict(inputs=[torch.from_numpy(picture).permute(2, 0, 1) for picture in pictures])
    with torch.no_grad():
        found = network.head(network.extract_feat(network.data_preprocessor(batch)['inputs'])).argmax(1)
    right = 100 * (found == torch.tensor([0, 1])).float().mean().item()
    assert f'accuracy/top1: {right:.4f}' in done.stdout + done.stderr
    # and it goes on learning, thresholds too
    done = run_tool('train.py', tmp_path / 'good_out' / 'converted.py', *given)
    assert done.returncode == 0, done.stderr
    trained = torch.load(work / 'epoch_1.pth', weights_only=False)['state_dict']
    names = [name for name, m in network.named_modules() if isinstance(m, ClipFloorShift)]
    assert all((trained[f'{name}.threshold'] != m.threshold).any() for name, m in zip(names, neurons, strict=True))

    refused = convert_by_tool('bad', bad)
    assert refused.returncode == 1 and 'hard swish in backbone.layer0.activate (' in refused.stderr
    assert not (tmp_path / 'bad_out').exists()
