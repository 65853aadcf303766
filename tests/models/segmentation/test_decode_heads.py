"""Spiking decode heads on drawn features of an image of 45 x 62 px, whose sides are no multiples of the strides."""

import math

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from torch import nn

from mmspike.models.layers import fold
from mmspike.models.neurons import BaseNeuron
from mmspike.registry import MODELS

mmseg = pytest.importorskip('mmseg')
from mmseg.structures import SegDataSample  # noqa: E402

STRIDES, CHANNELS, SIZE = (2, 4, 8, 16), (6, 8, 10, 12), (45, 62)
ALL = dict(in_channels=list(CHANNELS), in_index=[0, 1, 2, 3])
HEADS = dict(
    fpn=dict(type='mmspike.SpikingFPNHead', feature_strides=STRIDES, channels=16, **ALL),
    fcn=dict(type='mmspike.SpikingFCNHead', channels=16, **ALL),
    auxiliary=dict(type='mmspike.SpikingFCNHead', in_channels=10, in_index=2, channels=16, num_convs=1, concat_input=True),
    deeplab=dict(type='mmspike.SpikingDeepLabHead', in_channels=12, in_index=-1, channels=16, dilation=2),
)
STRIDE = dict(fpn=2, fcn=2, auxiliary=8, deeplab=16)  # of the logits
LIF, SFA = dict(type='LIF', tau=2.0), dict(type='SFA', levels=4, divisor=2)
CASES = [(LIF, 2), (SFA, 1), (SFA, 2)]
cases = pytest.mark.parametrize('neuron,T', CASES, ids=lambda x: x['type'] if isinstance(x, dict) else f'T{x}')
names = pytest.mark.parametrize('name', HEADS)


def build(name, neuron=SFA, **kwargs):
    init_default_scope('mmseg')
    cfg = dict(num_classes=5, norm_cfg=dict(type='BN')) | HEADS[name] | kwargs
    head = MODELS.build(dict(cfg, neuron=neuron))
    head.init_weights()
    for m in head.modules():
        if isinstance(m, nn.BatchNorm2d):  # membranes that cross the thresholds
            nn.init.uniform_(m.weight, 1, 3)
            nn.init.uniform_(m.running_var, 0.02, 0.1)
    return head.eval()


def features(T, B=2):
    return [
        torch.randn(T, B, c, *(math.ceil(side / s) for side in SIZE)) * 2 + 0.5 for c, s in zip(CHANNELS, STRIDES, strict=True)
    ]


def samples(B=2, classes=5):
    labels = torch.randint(0, classes, (B, 1, *SIZE))
    labels[:, :, :4] = 255
    return [SegDataSample(gt_sem_seg=PixelData(data=x)) for x in labels]


@names
@cases
def test_shapes(name, neuron, T):
    logits = build(name, neuron)(features(T))
    assert logits.shape == (2, 5, *(math.ceil(side / STRIDE[name]) for side in SIZE))


@names
@cases
@pytest.mark.parametrize('training', [False, True])
def test_weights_read_spikes(name, neuron, T, training):
    head = build(name, neuron, dropout_ratio=0.5).train(training)
    read = {}
    for key, m in head.named_modules():
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            m.register_forward_pre_hook(lambda m, args, key=key: read.update({key: args[0].unique()}))
    head(features(T))
    assert len(read) == len([p for p in head.parameters() if p.dim() > 1])
    spikes = {0.0, 1.0} if neuron is LIF else {0.0, 0.5, 1.0, 1.5, 2.0}
    for key, values in read.items():
        # in training, dropout scales the spikes of the channels that it keeps
        scale = 2 if training and key == 'conv_seg' else 1
        assert set(values.tolist()) <= {scale * s for s in spikes}, key
    assert len(read['conv_seg']) > 1 and all(len(values) > 1 for values in read.values())


@names
def test_neurons_are_the_only_activations(name):
    allowed = (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.Dropout2d, nn.Identity, BaseNeuron)
    containers = (nn.Sequential, nn.ModuleList)
    leaves = [m for m in build(name).modules() if not list(m.children()) and not isinstance(m, containers)]
    assert {type(m).__name__ for m in leaves if not isinstance(m, allowed)} == {'CrossEntropyLoss'}


@names
def test_logits_are_the_mean_over_steps(name):
    """SFA does not connect the steps, so that each can be computed alone."""
    head, feats = build(name), features(3)
    alone = [head([x[t : t + 1] for x in feats]) for t in range(3)]
    assert not torch.allclose(alone[0], alone[1])
    torch.testing.assert_close(head(feats), sum(alone) / 3)


@names
@cases
def test_training_and_evaluation_are_one_function(name, neuron, T):
    head, feats = build(name, neuron, dropout_ratio=0), features(T)
    expected = head(feats)
    head.train()
    for m in head.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.eval()
    assert torch.equal(head(feats), expected)


@names
@cases
def test_every_parameter_learns(name, neuron, T):
    head = build(name, neuron).train()
    losses = head.loss(features(T), samples(), None)
    assert set(losses) == {'loss_ce', 'acc_seg'} and losses['loss_ce'].isfinite()
    losses['loss_ce'].backward()
    assert all(p.grad is not None and p.grad.any() for p in head.parameters() if p.dim() > 1)


def test_losses_sampler_and_binary_output_are_the_hosts():
    several = [dict(type='CrossEntropyLoss', loss_name='loss_a'), dict(type='DiceLoss', loss_name='loss_b', ignore_index=255)]
    losses = build('fpn', loss_decode=several, align_corners=True).loss(features(1), samples(), None)
    assert set(losses) == {'loss_a', 'loss_b', 'acc_seg'} and all(v.isfinite().all() for v in losses.values())

    head, feats, given = build('fpn'), features(1), samples()
    plain = head.loss(feats, given, None)['loss_ce']
    head.sampler = build('fpn', sampler=dict(type='OHEMPixelSampler', thresh=0.1, min_kept=9)).sampler
    assert 0 < head.loss(feats, given, None)['loss_ce'] < plain  # easy pixels do not count

    head = build('deeplab', num_classes=2, out_channels=1, loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True))
    assert head.loss(features(1), samples(classes=2), None)['loss_ce'].isfinite()
    logits = head.predict(features(1), [dict(img_shape=SIZE)] * 2, None)
    assert logits.shape == (2, 1, *SIZE)


def test_ignored_pixels_do_not_count():
    head, feats, given = build('fcn'), features(1), samples()
    for sample in given:
        sample.gt_sem_seg.data[:] = 255
    assert head.loss(feats, given, None)['loss_ce'] == 0


def test_fpn_head_by_hand():
    head, feats = build('fpn'), features(2)

    def spikes(x):
        return x.clamp(0, 4).round() / 2

    total = 0
    for x, convs in zip(feats, head.scale_heads, strict=True):
        x = fold(x)
        for unit in convs:
            x = unit.norm(F.conv2d(spikes(x), unit.conv.weight, padding=1))
            size = [min(2 * a, b) for a, b in zip(x.shape[-2:], feats[0].shape[-2:], strict=True)]
            x = F.interpolate(x, size, mode='bilinear')
        total = total + x
    expected = head.conv_seg(spikes(total)).unflatten(0, (2, 2)).mean(0)
    torch.testing.assert_close(head(feats), expected)
    assert [len(convs) for convs in head.scale_heads] == [1, 1, 2, 3]


def test_fcn_head_has_an_up_step_for_each_skip():
    head = build('fcn')
    assert [tuple(up.conv.weight.shape[:2]) for up in head.ups] == [(5, 5)] * 3
    assert [skip.conv.in_channels for skip in head.skips] == [10, 8, 6]
    # a skip changes the logits through the membrane
    feats = features(1)
    before = head(feats)
    feats[0] = feats[0].flip(0, 1)
    assert not torch.equal(head(feats), before)


def test_concatenated_features():
    head = build('deeplab', in_channels=[10, 12], in_index=[2, 3], input_transform='resize_concat')
    assert head.conv.conv.in_channels == 22
    assert head(features(2)).shape == (2, 5, 6, 8)


def test_dropout_takes_a_channel_at_all_steps():
    head = build('deeplab', dropout_ratio=0.5).train()
    read = []
    head.conv_seg.register_forward_pre_hook(lambda m, args: read.append(args[0]))
    head.classify(torch.full((3, 2, 16, 4, 4), 2.0))
    kept = read[0].unflatten(0, (3, 2)).flatten(3).mean(3)
    assert set(kept.unique().tolist()) == {0.0, 2.0}
    assert (kept == kept[0]).all() and not (kept == kept[:, :1]).all()


@names
def test_features_without_time_are_refused(name):
    with pytest.raises(ValueError, match='temporal_output="keep"'):
        build(name)([x[0] for x in features(1)])


@names
def test_a_head_takes_no_activation(name):
    with pytest.raises(TypeError, match='act_cfg'):
        build(name, act_cfg=dict(type='ReLU'))


def test_wrong_arguments():
    with pytest.raises(ValueError, match='powers of two'):
        build('fpn', feature_strides=(4, 2, 8, 16))
    with pytest.raises(ValueError, match='powers of two'):
        build('fpn', feature_strides=(2, 4, 8, 12))
    with pytest.raises(ValueError, match='as many as'):
        build('fpn', feature_strides=(2, 4, 8))
    with pytest.raises(ValueError, match='num_convs=0'):
        build('auxiliary', num_convs=0)
    with pytest.raises(ValueError, match='twice the stride'):
        head = build('fcn', in_channels=[6, 10], in_index=[0, 2])
        head(features(1))
