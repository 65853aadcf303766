import pytest
import torch
from torch import nn

from mmspike.models import SpikingFPN
from mmspike.models.layers import fold

from ..spikes import NEURONS, assert_weights_read_spikes


def levels(T=1, B=2, channels=(4, 6, 8), side=(32, 24)):
    return tuple(torch.randn(T, B, c, -(-side[0] // 2**i), -(-side[1] // 2**i)) * 2 for i, c in enumerate(channels))


@pytest.mark.parametrize('neuron', NEURONS)
@pytest.mark.parametrize('extra_levels', ['conv', 'pool'])
def test_shapes_and_gradients(neuron, extra_levels):
    fpn = SpikingFPN([4, 6, 8], 8, num_outs=5, extra_levels=extra_levels, norm_cfg=dict(type='BN'), neuron=neuron)
    feats = levels(T=2, side=(33, 21))
    outs = fpn(feats)
    assert [o.shape for o in outs] == [(2, 2, 8, h, w) for h, w in [(33, 21), (17, 11), (9, 6), (5, 3), (3, 2)]]
    sum(o.square().sum() for o in outs).backward()
    assert all(p.grad is not None for p in fpn.parameters())


@pytest.mark.parametrize('neuron', NEURONS)
@pytest.mark.parametrize('training', [True, False])
def test_weights_read_spikes(neuron, training):
    fpn = SpikingFPN([4, 6, 8], 8, num_outs=5, neuron=neuron).train(training)
    with assert_weights_read_spikes(fpn):
        fpn(levels(T=2))


def test_sum_is_one_of_membranes():
    """Computed by hand with the modules' own weights."""
    fpn = SpikingFPN([4, 6], 8, num_outs=2)
    fine, coarse = levels(channels=(4, 6))
    lateral = [conv(x) for conv, x in zip(fpn.lateral_convs, (fine, coarse), strict=True)]
    above = nn.Upsample(scale_factor=2)(fold(lateral[1])).unsqueeze(0)
    expected = (fpn.fpn_convs[0](lateral[0] + above), fpn.fpn_convs[1](lateral[1]))
    for out, wanted in zip(fpn((fine, coarse)), expected, strict=True):
        assert torch.equal(out, wanted)


def test_clips_at_the_same_count_in_training_and_evaluation():
    """A neck whose neurons stop at another count in evaluation gives another function: inputs are large enough to tell."""
    fpn = SpikingFPN([4, 6, 8], 8, num_outs=3)
    feats = tuple(10 * x for x in levels())
    seen = {}
    for training in (True, False):
        fpn.train(training)
        seen[training] = fpn(feats)
        assert fpn.lateral_convs[0].neuron(feats[0]).max() == 4
    assert all(torch.equal(a, b) for a, b in zip(seen[True], seen[False], strict=True))


def test_errors():
    fpn = SpikingFPN([4, 6, 8], 8, num_outs=3)
    with pytest.raises(ValueError, match='expected 3 features'):
        fpn(levels()[:2])
    with pytest.raises(ValueError, match='temporal_output="keep"'):
        fpn([x[0] for x in levels()])
    with pytest.raises(ValueError, match='num_outs=2 is less than the 3 scales'):
        SpikingFPN([4, 6, 8], 8, num_outs=2)
    with pytest.raises(ValueError, match="'conv' or 'pool', got 'max'"):
        SpikingFPN([4, 6, 8], 8, num_outs=4, extra_levels='max')
    with pytest.raises(ValueError, match=r'start_level must be in \[0, 2\], got 3'):
        SpikingFPN([4, 6, 8], 8, num_outs=4, start_level=3)
