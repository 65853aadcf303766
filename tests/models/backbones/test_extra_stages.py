import pytest
import torch
from mmengine.registry import MODELS

import mmspike  # noqa: F401

BACKBONE = dict(
    type='mmspike.MetaSpikeFormer', arch=dict(dims=[8, 16, 24, 32], depths=(1, 1, 1, 1, 1)), T=2, out_indices=(1, 3)
)
LIF = dict(type='LIF', tau=2.0, v_threshold=0.01)  # low, so that random membranes fire


def build(**kwargs):
    return MODELS.build(dict(type='mmspike.ExtraStages', backbone=BACKBONE, neuron=LIF) | kwargs).eval()


def test_features_and_their_strides():
    model = build(num_stages=2)
    assert (model.out_channels, model.out_strides, model.T, model.in_channels) == ((16, 32, 32, 32), (8, 16, 32, 64), 2, 3)
    feats = model(torch.rand(3, 3, 100, 64))
    assert [tuple(f.shape) for f in feats] == [(3, 16, 13, 8), (3, 32, 7, 4), (3, 32, 4, 2), (3, 32, 2, 1)]


def test_stages_read_spikes_at_every_step():
    """The mean over T is taken last, of membranes that the stages made step by step."""
    model, seen = build(num_stages=1, temporal_output='keep'), []
    model.stages[0].conv.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image = torch.rand(1, 3, 64, 64)
    kept = model(image)
    assert [tuple(f.shape[:3]) for f in kept] == [(2, 1, 16), (2, 1, 32), (2, 1, 32)]
    assert seen[0].shape[0] == 2 and set(seen[0].unique().tolist()) == {0.0, 1.0}
    mean = build(num_stages=1)
    mean.load_state_dict(model.state_dict())
    for a, b in zip(mean(image), kept, strict=True):
        assert torch.allclose(a, b.mean(0))


def test_selection():
    model = build(num_stages=2, out_indices=(1, 3))
    assert (model.out_channels, model.out_strides) == ((32, 32), (16, 64))
    assert [f.shape[-1] for f in model(torch.rand(1, 3, 64, 64))] == [4, 1]


def test_gradient_reaches_the_stages():
    model = build(num_stages=1).train()
    model(torch.rand(2, 3, 64, 64))[-1].square().sum().backward()
    assert model.stages[0].conv.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(num_stages=0), 'num_stages must be at least 1'),
        (dict(out_indices=(0, 3)), r'must ascend within \[0, 2\]'),
        (dict(out_indices=(1, 0)), 'must ascend'),
        (dict(temporal_output='sum'), "must be 'mean' or 'keep'"),
    ],
)
def test_faulty_arguments(change, message):
    with pytest.raises(ValueError, match=message):
        build(**(dict(num_stages=1) | change))
