"""Backbones with binary weights and with weights of few bits."""

import pytest
import torch

from mmspike.models.layers import is_binary, weight_bits
from mmspike.registry import MODELS

from .test_backbones import SMALL, images, small


@pytest.mark.parametrize('name', [n for n in SMALL if not MODELS.get(n).merges_layers])
def test_binary_weights(name):
    """All layers but the first and depthwise ones have two weights for each output channel, and learn."""
    model = small(name, binary=True)
    plain = small(name)
    plain.load_state_dict(model.state_dict(), strict=True)
    layers = {k: m for k, m in model.named_modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))}
    full = [k for k, m in layers.items() if not is_binary(m) and not k.startswith('stem.0.')]
    assert len(full) < len(layers) / 2 and not is_binary(next(iter(layers.values())))
    assert all(layers[k].groups > 1 for k in full if isinstance(layers[k], torch.nn.Conv2d))
    out = sum((f * torch.randn_like(f)).sum() for f in model(images()))
    out.backward()
    binary = [m for m in model.modules() if is_binary(m)]
    assert sum(bool(m.weight.grad.any()) for m in binary) > 0.8 * len(binary)
    x = images()
    assert not torch.equal(model(x)[-1], plain(x)[-1])


@pytest.mark.parametrize('name', [n for n in SMALL if not MODELS.get(n).merges_layers])
def test_weights_of_four_bits(name):
    """All layers but the first have them; a checkpoint of full weights loads."""
    model, plain = small(name, weight_bits=4), small(name)
    model.load_state_dict(plain.state_dict(), strict=True)
    layers = {k: m for k, m in model.named_modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))}
    full = [k for k, m in layers.items() if weight_bits(m) is None]
    assert full and all(k.startswith('stem.0.') for k in full)
    x = images()
    with torch.no_grad():
        assert not torch.equal(model(x)[-1], plain(x)[-1])
        assert all(m.weight_step.all() for k, m in layers.items() if k not in full)


@pytest.mark.parametrize('name', [n for n in SMALL if MODELS.get(n).merges_layers])
def test_no_binary_weights_where_layers_merge(name):
    for few in (dict(binary=True), dict(weight_bits=4)):
        with pytest.raises(ValueError, match=f'{name} merges layers into one'):
            small(name, **few)
