"""The parts of Max-Former and MS-QKFormer against their formulas, in float64."""

import pytest
import torch
from torch import nn
from torch.nn.functional import max_pool2d

from mmspike.models.backbones.max_former import MaxFormer, Merge, MSQKFormer, QKAttention, SpikingSelfAttention
from mmspike.models.neurons import lif

from ..spikes import assert_weights_read_spikes

LIF = dict(type='LIF', v_threshold=0.45)
BN = dict(type='BN')
T, B = 3, 2


def fire(x, threshold=0.45):
    return lif(x, v_threshold=threshold)[0]


def over_time(module, x):
    return module(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def conv_norm(part, x):
    return over_time(part.norm, over_time(part.conv, x))


@pytest.fixture
def x():
    return torch.randn(T, B, 8, 7, 6, dtype=torch.float64)


@pytest.mark.parametrize('pool', ['', 'branch', 'both'])
def test_merge(x, pool):
    merge = Merge(8, 12, LIF, BN, pool).double()

    def pooled(x):
        return max_pool2d(x.flatten(0, 1), 3, 2, 1).unflatten(0, x.shape[:2])

    s = fire(x)
    b, r = conv_norm(merge.conv1, s), conv_norm(merge.shortcut_conv, s)
    b, r = pooled(b) if pool else b, pooled(r) if pool == 'both' else r
    expected = conv_norm(merge.conv2, fire(b)) + r
    assert expected.shape == (T, B, 12, 4, 3) and fire(b).any()
    torch.testing.assert_close(merge(x), expected)


def test_qk_attention(x):
    attn = QKAttention(8, 2, LIF, BN).double()
    s = fire(x)
    q, k = fire(conv_norm(attn.q_conv, s)), fire(conv_norm(attn.k_conv, s))
    passes = fire(q.unflatten(2, (2, 4)).sum(3), 0.225)
    expected = conv_norm(attn.proj_conv, (passes.unsqueeze(3) * k.unflatten(2, (2, 4))).flatten(2, 3))
    assert 0 < passes.mean() < 1
    torch.testing.assert_close(attn(x), expected)
    assert not [name for name, _ in attn.named_modules() if name.startswith('v_')]


def test_spiking_self_attention(x):
    attn = SpikingSelfAttention(8, 2, LIF, BN).double()
    s = fire(x)
    q, k, v = (
        fire(conv_norm(conv, s)).unflatten(2, (2, 4)).flatten(4).transpose(3, 4)
        for conv in (attn.q_conv, attn.k_conv, attn.v_conv)
    )
    z = fire((q @ (k.transpose(3, 4) @ v) / 8).transpose(3, 4).reshape(x.shape), 0.225)
    torch.testing.assert_close(attn(x), conv_norm(attn.proj_conv, z))


@pytest.mark.parametrize('cls', [MaxFormer, MSQKFormer])
def test_only_the_first_convolution_reads_floats(cls):
    model = cls(dict(dims=(16, 32, 64), depths=(1, 2, 1), num_heads=2), T=2, neuron=LIF)
    with assert_weights_read_spikes(nn.ModuleList(model.stages)) as rates:
        model(torch.randn(2, 3, 64, 64))
    assert all(rate > 0 for rate in rates.values())


def test_features_and_mixers():
    model = MaxFormer(dict(dims=(16, 32, 64), depths=(1, 2, 3), num_heads=2), out_indices=('stem', 0, 1, 2))
    assert model.out_channels == (8, 16, 32, 64) and model.out_strides == (2, 4, 8, 16)
    assert [len(stage) for stage in model.stages] == [2, 3, 4]
    assert [model.stages[i][1].mixer.conv.conv.kernel_size for i in (0, 1)] == [(7, 7), (5, 5)]
