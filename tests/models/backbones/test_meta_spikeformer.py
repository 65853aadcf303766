from copy import deepcopy

import pytest
import torch

from mmspike.models.backbones import MetaSpikeFormer
from mmspike.models.backbones.meta_spikeformer import SpikeDrivenSelfAttention
from mmspike.models.neurons import LIF


@pytest.mark.parametrize(('arch', 'millions'), [('15m', 15.1), ('31m', 31.3), ('metaspikeformer-55m', 55.4)])
def test_published_parameter_counts(arch, millions):
    with torch.device('meta'):
        model = MetaSpikeFormer(arch)
    head = 1000 * (model.out_channels[-1] + 1)
    assert (sum(p.numel() for p in model.parameters()) + head) / 1e6 == pytest.approx(millions, abs=0.05)
    assert model.out_strides == (4, 8, 16, 16)


def spikes_of(attn, name):
    """Record what the module ``name`` of an attention puts out."""
    record = []
    getattr(attn, name).register_forward_hook(lambda m, args, out: record.append((args[0].detach(), out.detach())))
    return record


@pytest.mark.parametrize('variant', [1, 3, 4])
def test_attention_variants_equal_their_definition(variant):
    attn = SpikeDrivenSelfAttention(16, 2, variant, dict(type='LIF', v_threshold=0.4), dict(type='BN')).double()
    records = {n: spikes_of(attn, f'{n}_neuron') for n in 'qkv'}
    y_record = spikes_of(attn, 'attn_neuron')
    proj = spikes_of(attn, 'proj_conv')
    attn(torch.randn(3, 2, 16, 4, 5, dtype=torch.float64) * 3)
    # [T, B, heads, N, d], as the paper writes it
    q, k, v = (records[n][0][1].reshape(3, 2, 2, 8, 20).transpose(-1, -2) for n in 'qkv')
    assert q.any() and k.any() and v.any()
    half = LIF(v_threshold=0.2)
    if variant == 1:
        y = half((q * k).sum(-2, keepdim=True)) * v
    else:
        y = half((q @ (k.transpose(-1, -2) @ v)) * 0.125)
    expected = y.transpose(-1, -2).reshape(3, 2, 16, 4, 5)
    assert torch.equal(proj[0][0], expected)
    assert y_record[0][1].unique().tolist() == [0, 1]


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
@pytest.mark.parametrize(
    'neuron', [dict(type='LIF', v_threshold=0.4), dict(type='SFA', levels=4, divisor=2)], ids=['LIF', 'SFA']
)
@pytest.mark.parametrize('variant', [1, 3, 4])
def test_attention_equals_its_modules(variant, neuron, dtype):
    """As the modules, which hooks on them make run, one by one: spikes saved as counts are the spikes that were sent."""
    torch.manual_seed(0)
    attn = SpikeDrivenSelfAttention(16, 2, variant, neuron, dict(type='BN')).to(dtype)
    x = (torch.randn(2, 2, 16, 6, 5, dtype=torch.float64) * 3).to(dtype)
    weights = torch.randn(x.shape, dtype=torch.float64).to(dtype)
    found = []
    for plain in (False, True):
        m, z = deepcopy(attn), x.clone().requires_grad_()
        if plain:
            for part in m.modules():
                part.register_forward_hook(lambda *args: None)
        out = m(z)
        (out * weights).sum().backward()
        found.append({'out': out.detach(), 'x': z.grad} | {k: p.grad for k, p in m.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys() and len(found[0]) > 20
    for key, expected in found[1].items():
        largest = max(1.0, expected.abs().max().item())  # some gradients are 0 but for rounding
        torch.testing.assert_close(found[0][key], expected, rtol=0, atol=(1e-10 if dtype == torch.float64 else 1e-4) * largest)


def test_learned_threshold_of_variant_4():
    attn = SpikeDrivenSelfAttention(16, 2, 4, dict(type='LIF', v_threshold=0.4), dict(type='BN'))
    record = spikes_of(attn, 'attn_neuron')
    x = torch.randn(2, 2, 16, 4, 4) * 3
    attn(x).sum().backward()
    assert attn.threshold.grad is not None and attn.threshold.grad != 0
    with torch.no_grad():
        attn.threshold.mul_(10)
        attn(x)
    assert record[1][1].mean() < record[0][1].mean()


def test_bad_attention():
    with pytest.raises(ValueError, match='1, 3 or 4, got 2'):
        MetaSpikeFormer(sdsa=2)
    with pytest.raises(ValueError, match='36 must be a multiple of num_heads=8'):
        MetaSpikeFormer(arch=dict(dims=(16, 32, 36, 64)))
