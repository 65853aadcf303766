"""Channels, stages and modes of any model, seen from outside."""

import pytest
import torch
from spikingjelly.activation_based import neuron as spikingjelly
from torch import nn

from mmspike.models.inspection import channels_of, evaluating, is_neuron
from mmspike.models.neurons import LIF, SFA

from .backbones.test_backbones import backbones, small

# another name -> options under which it has another attention
MORE = {'MetaSpikeFormer sdsa=1': dict(sdsa=1)}


@pytest.mark.parametrize('name', [*backbones(), *MORE])
def test_channels_do_not_depend_on_the_image(name):
    """A channel is what weights make: neither heads, tokens nor positions, whose number changes with the size."""
    model = small(name.split()[0], **MORE.get(name, {})).eval()
    shapes = []
    for size in ((1, 3, 32, 64), (2, 3, 64, 96)):
        seen = {}
        handles = [
            m.register_forward_hook(lambda m, args, out, n=n, seen=seen: seen.update({n: channels_of(m, out).shape}))
            for n, m in model.named_modules()
            if is_neuron(m)
        ]
        with torch.no_grad():
            model(torch.randn(size))
        for handle in handles:
            handle.remove()
        shapes.append(seen)
    assert shapes[0] and shapes[0].keys() == shapes[1].keys()
    for n, a in shapes[0].items():
        b = shapes[1][n]
        assert (a[0], a[1], a[2]) == (model.T, 1, b[2]) and b[:2] == (model.T, 2), n
        if len(a) == 5 and a[-2:] != (1, 1):  # a map: 32 x 64 and 64 x 96 px at the neuron's stride
            assert (b[3], 2 * b[4]) == (2 * a[3], 3 * a[4]) and a[4] == 2 * a[3], n


def test_layouts():
    tokens = SFA()
    tokens.layout = 'TBNC'
    out = torch.arange(2 * 3 * 4 * 5.0).view(2, 3, 4, 5)
    assert torch.equal(channels_of(tokens, out), out.transpose(2, 3))
    pairs = SFA()
    pairs.layout = 'TBCNN'
    assert channels_of(pairs, torch.zeros(2, 3, 4, 5, 6)).shape == (2, 3, 4, 30)
    with pytest.raises(ValueError, match=r"SFA has the layout 'TBNC' and gave an output of shape \(2, 3\)"):
        channels_of(tokens, torch.zeros(2, 3))
    single = spikingjelly.LIFNode(step_mode='s')
    assert channels_of(single, torch.zeros(3, 4, 5, 6)).shape == (1, 3, 4, 5, 6)


def test_evaluating_gives_every_module_its_mode_back():
    model = nn.Sequential(nn.BatchNorm1d(2).eval(), LIF(stateful=True), nn.Dropout())
    with pytest.raises(RuntimeError, match='inside'), evaluating(model):
        assert not any(m.training for m in model.modules()) and not torch.is_grad_enabled()
        model[1](torch.ones(1, 1, 2))
        raise RuntimeError('inside')
    assert [m.training for m in model] == [False, True, True] and model.training
    assert model[1].v is None and torch.is_grad_enabled()
