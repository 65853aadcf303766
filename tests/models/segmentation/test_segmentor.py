"""Whole segmentors from the shipped configs: spikes, weight decay, sizes, sliding windows."""

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmspike.engine.hooks import check_strides
from mmspike.engine.optim import NORMS

mmseg = pytest.importorskip('mmseg')
from mmseg.structures import SegDataSample  # noqa: E402

LIF = dict(type='LIF', tau=2.0)


def load(repo, name, **changes):
    cfg = Config.fromfile(repo / 'configs' / f'{name}.py')
    cfg.merge_from_dict(dict(model=changes))
    init_default_scope('mmseg')
    return cfg


def small(repo, neuron=None, **changes):
    """fpn_espike_nuclei, small; with a ``neuron``, that one and T = 2."""
    if neuron:
        changes |= dict(backbone=dict(T=2))
    cfg = load(repo, 'fpn_espike_nuclei', **changes)
    cfg.model.backbone.arch = dict(dims=(24, 48, 96, 128), depths=(1, 1, 1, 1, 1))
    if neuron:
        for part in ('backbone', 'neck', 'decode_head'):
            cfg.model[part].neuron = neuron
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.train()
    with torch.no_grad():
        model.extract_feat(torch.randn(2, 3, 64, 64))  # running statistics
    return model.eval()


@pytest.mark.parametrize('neuron', [None, LIF], ids=['SFA', 'LIF'])
@pytest.mark.parametrize('training', [False, True])
def test_every_weight_after_the_first_reads_spikes(repo, neuron, training):
    model = small(repo, neuron, decode_head=dict(dropout_ratio=0)).train(training)
    read = {}
    for key, m in model.named_modules():
        assert not isinstance(m, nn.ReLU)
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            m.register_forward_pre_hook(lambda m, args, key=key: read.update({key: args[0].unique()}))
    model(torch.randn(2, 3, 64, 64), mode='tensor')
    assert len(read.pop('backbone.stem.0.conv.conv')) > 1000  # the image
    assert {key.split('.')[0] for key in read} == {'backbone', 'neck', 'decode_head'}
    for key, values in read.items():
        spikes = {0.0, 1.0} if neuron else {k / (4 if key.startswith('backbone') else 1) for k in range(5)}
        assert set(values.tolist()) <= spikes, key


@pytest.mark.parametrize('name', ['fpn_metaspike_ade20k', 'deeplab_metaspike_ade20k', 'fpn_espike_nuclei'])
def test_no_weight_decay_on_norms_and_biases(repo, name):
    cfg = load(repo, name)
    model = MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    groups = {id(group['params'][0]): group for group in wrapper.optimizer.param_groups}
    optimizer, seen = cfg.optim_wrapper.optimizer, set()
    for key, module in model.named_modules():
        for kind, parameter in module.named_parameters(recurse=False):
            group = groups.pop(id(parameter))
            exempt = isinstance(module, NORMS) or kind == 'bias'
            assert group['weight_decay'] == (0 if exempt else optimizer.weight_decay), f'{key}.{kind}'
            twice = 'ade20k' in name and key.startswith('decode_head')
            assert group['lr'] == optimizer.lr * (2 if twice else 1), f'{key}.{kind}'
            seen.add((key.split('.')[0], exempt))
    assert not groups
    assert {('backbone', True), ('backbone', False), ('decode_head', True), ('decode_head', False)} <= seen


@pytest.mark.parametrize('side', [(64, 64), (45, 61), (33, 100)])
def test_any_image_size(repo, side):
    model = small(repo)
    sample = SegDataSample(metainfo=dict(img_shape=side, ori_shape=side, pad_shape=side))
    with torch.no_grad():
        result = model(torch.randn(1, 3, *side), [sample], mode='predict')[0]
    assert result.seg_logits.data.shape == (2, *side) and result.pred_sem_seg.data.shape == (1, *side)


@pytest.mark.parametrize('neuron', [None, LIF], ids=['SFA', 'LIF'])
def test_slide_is_the_mean_of_the_windows(repo, neuron):
    model = small(repo, neuron)
    model.test_cfg.update(mode='slide', crop_size=(48, 48), stride=(32, 32))
    image = torch.randn(1, 3, 80, 70)
    meta = dict(img_shape=(80, 70), ori_shape=(80, 70), pad_shape=(80, 70))
    total, count = torch.zeros(1, 2, 80, 70), torch.zeros(80, 70)
    with torch.no_grad():
        logits = model.inference(image, [meta])
        for y in (32, 0):  # in another order: no window sees what came before it
            for x in (22, 0):
                window = model(image[..., y : y + 48, x : x + 48], mode='tensor')
                total[..., y : y + 48, x : x + 48] += nn.functional.interpolate(window, (48, 48), mode='bilinear')
                count[y : y + 48, x : x + 48] += 1
    assert count.min() == 1 and count.max() == 4
    torch.testing.assert_close(logits, total / count, rtol=1e-5, atol=1e-5)


def test_fcn_head_with_auxiliary_head(repo):
    """Spiking-FCN on the backbone's features, and the same head without up-steps beside it."""
    common = dict(num_classes=2, norm_cfg=dict(type='BN'), neuron=dict(type='SFA', levels=4, divisor=1))
    model = small(
        repo,
        neck=None,
        decode_head=dict(
            _delete_=True,
            type='mmspike.SpikingFCNHead',
            in_channels=[12, 24, 48, 128],
            in_index=[0, 1, 2, 3],
            channels=32,
            **common,
        ),
        auxiliary_head=dict(type='mmspike.SpikingFCNHead', in_channels=48, in_index=2, channels=16, num_convs=1, **common),
    )
    from mmengine.structures import PixelData

    labels = torch.randint(0, 2, (2, 1, 64, 64))
    samples = [SegDataSample(gt_sem_seg=PixelData(data=x)) for x in labels]
    losses = model.train()(torch.randn(2, 3, 64, 64), samples, mode='loss')
    assert set(losses) == {'decode.loss_ce', 'decode.acc_seg', 'aux.loss_ce', 'aux.acc_seg'}
    (losses['decode.loss_ce'] + losses['aux.loss_ce']).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_strides_of_the_head(repo):
    """What published configs do: the last stage taken for stride 32."""
    check_strides(small(repo))
    with pytest.raises(ValueError, match=r'decode_head assumes strides \[4, 8, 16, 32\].*have \[2, 4, 8, 16\]'):
        check_strides(small(repo, decode_head=dict(feature_strides=[4, 8, 16, 32])))
