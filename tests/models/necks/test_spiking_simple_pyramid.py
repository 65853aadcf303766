import pytest
import torch

from mmspike.models import SpikingSimplePyramid

from ..spikes import NEURONS, assert_weights_read_spikes


@pytest.mark.parametrize('neuron', NEURONS)
def test_shapes_and_gradients(neuron):
    neck = SpikingSimplePyramid(16, 8, num_outs=6, norm_cfg=dict(type='BN'), neuron=neuron)
    outs = neck((torch.randn(2, 1, 4, 9, 9), torch.randn(2, 1, 16, 5, 4)))
    assert [o.shape for o in outs] == [(2, 1, 8, h, w) for h, w in [(20, 16), (10, 8), (5, 4), (3, 2), (2, 1), (1, 1)]]
    sum(o.square().sum() for o in outs).backward()
    assert all(p.grad is not None for p in neck.parameters())


@pytest.mark.parametrize('neuron', NEURONS)
def test_weights_read_spikes(neuron):
    neck = SpikingSimplePyramid(16, 8, neuron=neuron)
    with assert_weights_read_spikes(neck):
        neck((torch.randn(2, 2, 16, 6, 6) * 2,))


@pytest.mark.parametrize(
    ('kwargs', 'message'), [(dict(in_channels=6), 'multiple of 4, got 6'), (dict(num_outs=3), 'at least 4, got 3')]
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        SpikingSimplePyramid(**(dict(in_channels=8, out_channels=8) | kwargs))


@pytest.mark.parametrize('shape', [(1, 8, 4, 4), (1, 1, 16, 4, 4)])
def test_bad_input(shape):
    with pytest.raises(ValueError, match='temporal_output="keep"'):
        SpikingSimplePyramid(8, 8)((torch.randn(shape),))
