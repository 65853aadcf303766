"""Fused networks equal the trained ones: every backbone, neck and head, boxes and masks included."""

import re
from copy import deepcopy
from pathlib import Path

import mmcv
import pytest
import torch
from mmcv.cnn import ConvModule
from torch import nn

from mmspike.analysis.flips import plain, spike_flips
from mmspike.deploy import compare, difference, fuse, leftovers
from mmspike.deploy.attention import FusedAggregation, FusedAttention, FusedDualAttention
from mmspike.deploy.fusing import fused
from mmspike.deploy.layers import ThresholdSFA
from mmspike.models.layers import RepConv, SpikingConv, SpikingConvTranspose, SpikingLinear
from mmspike.models.neurons import build_neuron

from .networks import BACKBONES, LIF, build, sample, sfa, spikes_of, trained, whole_model


@pytest.mark.parametrize('name', BACKBONES)
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float64, 1e-9), (torch.float32, 1e-5)], ids=['float64', 'float32'])
def test_backbones(name, dtype, tolerance):
    model = trained(BACKBONES[name]()).to(dtype)
    x = torch.randn(2, 3, 64, 64, dtype=dtype)
    state = deepcopy(model.state_dict())
    network = fuse(model)
    left = [f'stages.2.3.norm{i} (LayerNorm)' for i in (1, 2, 3)] if name == 'spikeformer' else []
    assert leftovers(network) == left
    spikes = spikes_of(network, lambda: network(x))
    with torch.no_grad():
        assert difference(model(x), network(x)).largest < tolerance
    # all of it takes part, attention too
    assert all(s.any() for s in spikes.values())
    attentions = [m for m in network.modules() if isinstance(m, (FusedAttention, FusedAggregation, FusedDualAttention))]
    assert bool(attentions) == (not name.startswith(('vgg', 'yolo')) and name != 'spikeformer')
    # scales are part of thresholds and weights, with neurons that can take them
    left = name in ('meta_nilif', 'saformer_levels4')
    assert all(getattr(a, 'scale', 1) == 1 for a in attentions) != left
    assert all(((s == s.round()) & (s >= 0)).all() for s in spikes.values())
    # what it was made from is as before
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


def test_depthwise_can_stay_apart():
    model = trained(BACKBONES['meta']()).double()
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    merged, apart = fuse(model), fuse(model, merge_depthwise=False)
    with torch.no_grad():
        assert difference(model(x), apart(x)).largest < 1e-9
    depthwise = [[m for m in n.modules() if isinstance(m, nn.Conv2d) and m.groups > 1] for n in (merged, apart)]
    assert not depthwise[0] and depthwise[1]


@pytest.mark.parametrize('neuron', [LIF, sfa(4), sfa(8, 2)], ids=['LIF', 'SFA', 'SFA8'])
def test_units(neuron):
    torch.manual_seed(1)
    x = 2 * torch.randn(2, 3, 8, 9, 9, dtype=torch.float64)
    units = [
        SpikingConv(8, 6, 3, 2, neuron=neuron, norm_cfg=dict(type='BN')),
        SpikingConv(8, 6, 3, dilation=2, groups=2, neuron=neuron, norm_cfg=dict(type='SyncBN'), bias=True),
        SpikingConv(8, 6, neuron=neuron),
        SpikingConv(8, 6, neuron=neuron, norm_cfg=dict(type='GN', num_groups=2)),
        SpikingConvTranspose(8, 6, 4, 2, 1, neuron=neuron, norm_cfg=dict(type='BN')),
        SpikingConvTranspose(8, 6, 2, 2, neuron=neuron),
    ]
    for unit in units:
        unit = trained(unit).double()
        with torch.no_grad():
            torch.testing.assert_close(fuse(unit)(x), unit(x), rtol=0, atol=1e-12)
    assert leftovers(fuse(units[3])) == ['norm (GroupNorm)']
    linear = trained(SpikingLinear(8, 5, neuron=neuron, norm_cfg=dict(type='BN1d'))).double()
    with torch.no_grad():
        torch.testing.assert_close(fuse(linear)(x[..., 0, 0]), linear(x[..., 0, 0]), rtol=0, atol=1e-12)


def test_repconv_with_borders():
    rep = trained(RepConv(6, dict(type='BN'))).double()
    x = torch.randn(2, 1, 6, 5, 7, dtype=torch.float64)
    merged = fuse(rep)
    assert [m.kernel_size for m in merged.modules() if isinstance(m, nn.Conv2d)] == [(3, 3)]
    with torch.no_grad():
        torch.testing.assert_close(merged(x), rep(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize('width', [32, 72, 96])
def test_thresholds_count_as_the_scaled_neuron(width):
    """Heads of width 4 (scale 1), 9 (2 / 3, with ties) and 12 (irrational): all whole numbers that may come."""
    from mmspike.models.backbones.e_spikeformer import EfficientSpikeSelfAttention

    for dtype in (torch.float32, torch.float64):
        model = EfficientSpikeSelfAttention(width, 8, sfa(4), dict(type='BN')).eval().to(dtype)
        neuron = fuse(model).attn_neuron
        assert isinstance(neuron, ThresholdSFA)
        y = torch.arange(2000, dtype=dtype).view(1, -1)
        torch.testing.assert_close(neuron(y), 4 * model.attn_neuron(y / 64 * model.scale), rtol=0, atol=0)


def test_conv_modules_of_mmcv():
    block = trained(ConvModule(3, 4, 3, norm_cfg=dict(type='BN'))).double()
    x = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(fuse(block)(x), block(x), rtol=0, atol=1e-12)
    assert leftovers(block) and not leftovers(fuse(block))


MODELS = [
    'mask_rcnn_espike_coco.py',
    'mask_rcnn_metaspike_nuclei.py',
    'cascade_mask_rcnn_espike_coco.py',
    'retinanet_espike_coco.py',
    'fpn_metaspike_ade20k.py',
    'deeplab_metaspike_ade20k.py',
    'espike_imagenet.py',
    'metaspike/metaspikeformer-15m_t4_8xb24-50e-distill_imagenet.py',
]


@pytest.mark.parametrize('name', MODELS)
def test_whole_models(repo, name):
    cfg, model = whole_model(repo, name)
    model = build(model).double()
    batch = sample(cfg.default_scope, (64, 64))
    network = fuse(model)
    found = compare(model, network, batch)
    assert found.largest < 1e-9 and found.flipped == 0, found
    assert leftovers(network) == []
    # the comparison is of something: outputs depend on the image
    other = dict(batch, inputs=[255 - batch['inputs'][0]])
    with torch.no_grad():
        results = [network.float().test_step(deepcopy(b)) for b in (batch, other)]
    assert difference(*results).largest > 1e-3


def test_boxes_and_masks_of_a_real_image(repo, shared):
    picture = mmcv.imread(sorted((shared / 'data' / 'nuclei' / 'val').glob('*.*'))[0])
    cfg, model = whole_model(repo, 'mask_rcnn_espike_nuclei.py')
    model = build(model)
    batch = sample('mmdet', (96, 96), mmcv.imresize(picture, (96, 96)))
    found = compare(model, fuse(model), batch)
    assert found.largest < 1e-5 and found.flipped == 0 and found.total > 96 * 96, found
    double = deepcopy(model).double()
    found = compare(double, fuse(double), batch)
    assert found.largest < 1e-9 and found.flipped == 0, found


def test_a_negative_learned_scale_is_no_threshold():
    """Attention times a negative number never fires; a neuron with a negative threshold would always."""
    model = trained(BACKBONES['meta_sdsa4']()).double()
    for m in model.modules():
        if getattr(m, 'threshold', None) is not None:
            m.threshold.data.neg_()
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        assert difference(model(x), fuse(model)(x)).largest < 1e-9


def test_nan_is_a_difference_of_spikes():
    """A neuron that sends NaN sends no 0, and both networks get their modes back."""
    from mmengine.model import BaseModel

    class Net(BaseModel):
        def __init__(self, value):
            super().__init__()
            self.neuron, self.value = build_neuron(sfa(4)), value

        def forward(self, inputs, mode='tensor'):
            return self.neuron(torch.tensor([0.0, self.value, 4.0]).view(1, 1, 3))

    broken, silent = Net(float('nan')), Net(0.0).eval()
    found = spike_flips([dict(inputs=torch.zeros(1))], plain(broken), plain(silent))
    assert str(found) == '1 of 3 spikes differ, first 1 of 3 in neuron'
    assert broken.training and not silent.training
    assert compare(broken, silent, dict(inputs=torch.zeros(1))).largest == float('inf')


def test_nan_is_a_difference():
    x = torch.tensor([1.0, float('nan'), float('inf')])
    assert difference([torch.ones(3)], [x]).largest == float('inf')
    assert difference([torch.tensor([1.0, float('inf')])], [torch.tensor([1.5, float('inf')])]).largest == 0.5


def test_boxes_in_another_order_are_the_same_boxes():
    boxes = torch.tensor([[0.0, 0, 10, 10], [50, 50, 90, 90], [20, 20, 40, 40]])
    one, other, fewer = (dict(found=dict(bboxes=b)) for b in (boxes, boxes[[0, 2, 1]], boxes[:2]))
    assert str(difference(one, one)) == 'largest difference 0'
    assert str(difference(one, other)).endswith(
        'largest difference 50 (in found.bboxes); 3 of 3 boxes are there at any place in the list'
    )
    assert str(difference(one, fewer)).endswith('; 2 of 3 boxes are there at any place in the list')
    assert difference(dict(found=dict(bboxes=boxes[:0])), fewer).found == 0


def test_documentation_lists_the_classes_with_a_rule():
    classes = {cls.__name__ for cls in fused.registry if cls is not object}
    lines = (Path(__file__).parents[2] / 'docs/deployment.md').read_text().splitlines()
    start = lines.index('| class | why a row does not say it |')
    table = '\n'.join(lines[start : lines.index('', start)])
    assert classes == set(re.findall(r'`(\w+)`', re.sub(r'(?<=\| as) `\w+`', '', table)))
