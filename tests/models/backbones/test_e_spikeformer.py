from copy import deepcopy

import pytest
import torch

from mmspike.models.backbones import ESpikeFormer
from mmspike.models.backbones.e_spikeformer import EfficientSpikeSelfAttention

SMALL = dict(dims=(16, 16, 32, 48))


@pytest.mark.parametrize(('arch', 'millions'), [('t', 2.70), ('s', 5.11), ('m', 10.02), ('espikeformer-l', 18.99)])
def test_published_parameter_counts(arch, millions):
    with torch.device('meta'):
        model = ESpikeFormer(arch)
    head = 1000 * (model.out_channels[-1] + 1)
    assert (sum(p.numel() for p in model.parameters()) + head) / 1e6 == pytest.approx(millions, abs=0.006)


def record(module):
    out = []
    module.register_forward_hook(lambda m, args, y: out.append((args[0].detach(), y.detach())))
    return out


@pytest.mark.parametrize('levels', [4, 8])
def test_linear_attention_is_bit_identical_to_the_quadratic_order(levels):
    """In float32: the sums are integers in units of 1 / D^3, exact below 2^24 of them."""
    attn = EfficientSpikeSelfAttention(64, 4, dict(type='SFA', levels=levels), dict(type='BN'))
    q, k, v, y = (record(getattr(attn, f'{n}_neuron')) for n in ('q', 'k', 'v', 'attn'))
    attn(torch.randn(1, 2, 64, 24, 20) * 3)
    # [B, heads, N, d], as the paper writes it
    q, k, v = (r[0][1].reshape(2, 4, -1, 480).transpose(-1, -2) for r in (q, k, v))
    assert v.shape[-1] == 4 * q.shape[-1] and q.any() and k.any() and v.any()
    quadratic = ((q @ k.transpose(-1, -2)) @ v) * (2 / 16**0.5)
    assert quadratic.abs().max() * levels**3 < 2**24
    assert torch.equal(y[0][0].reshape(2, 4, -1, 480).transpose(-1, -2), quadratic)


def test_layer_scale():
    plain, scaled = ESpikeFormer(SMALL).eval(), ESpikeFormer(SMALL, layer_scale=1e-6).eval()
    assert not any('layer_scale' in k for k in plain.state_dict())
    assert scaled.stages[2][1].layer_scale1.scale.unique().item() == pytest.approx(1e-6)
    # a checkpoint without: it starts at 1 and switches nothing off
    scaled.load_state_dict(plain.state_dict(), strict=True)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(plain(x), scaled(x), strict=True):
            assert torch.equal(a, b)
    # a checkpoint with: it is kept
    scaled.stages[2][1].layer_scale2.scale.data.fill_(0.3)
    other = ESpikeFormer(SMALL, layer_scale=1e-6)
    other.load_state_dict(scaled.state_dict(), strict=True)
    assert other.stages[2][1].layer_scale2.scale.unique().item() == pytest.approx(0.3)


def test_ann_twin():
    """The same layout with ReLU in place of neurons."""
    model = ESpikeFormer(SMALL, neuron=dict(type='ReLU'))
    feats = model(torch.randn(2, 3, 64, 64))
    assert all(f.isfinite().all() for f in feats)
    assert sum(isinstance(m, torch.nn.ReLU) for m in model.modules()) > 50


def test_compiles_in_one_graph_for_any_size():
    model = ESpikeFormer(dict(dims=(8, 8, 16, 16), depths=(1, 1, 0, 1, 0), num_heads=2)).double()
    compiled = torch.compile(deepcopy(model), fullgraph=True, dynamic=True, backend='eager')
    for size in ((32, 32), (64, 40)):
        x = torch.randn(1, 3, *size, dtype=torch.float64)
        for a, b in zip(model(x), compiled(x), strict=True):
            torch.testing.assert_close(a, b)
