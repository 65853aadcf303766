import pytest
import torch
import torch.nn.functional as F

from mmspike.models.layers import DropPath, RepConv, Signal, attend, fold, half_threshold, repeat_time, sum_over_tokens, unfold


def test_fold_and_unfold_are_views():
    x = torch.randn(2, 3, 4)
    assert torch.equal(unfold(fold(x), 2), x)
    assert fold(x).data_ptr() == x.data_ptr()
    assert unfold(torch.zeros(0, 4), 2).shape == (2, 0, 4)
    assert repeat_time(x, 5).shape == (5, 2, 3, 4)


def randomize(module):
    for name, value in module.state_dict().items():
        if name.endswith('running_var'):
            value.uniform_(0.5, 1.5)
        elif value.is_floating_point():
            value.normal_(0, 0.5)


@pytest.mark.parametrize('training', [True, False])
def test_repconv_equals_its_definition(training):
    """The border is padded with what the first norm gives for a zero input, in training with the statistics just updated."""
    rep = RepConv(6, dict(type='BN')).double()
    randomize(rep)
    rep.train(training)
    x = (torch.rand(2, 3, 6, 7, 5) < 0.3).double()
    state = {k: v.clone() for k, v in rep.state_dict().items()}
    out = rep(x)
    rep.load_state_dict(state)
    y = rep.norm1(rep.conv1(fold(x)))
    n = rep.norm1
    constant = n.bias - n.running_mean * n.weight / torch.sqrt(n.running_var + n.eps)
    padded = constant.view(1, -1, 1, 1).repeat(6, 1, 9, 7)
    padded[:, :, 1:-1, 1:-1] = y
    expected = rep.norm2(rep.conv2(F.conv2d(padded, rep.dwconv.weight, groups=6)))
    torch.testing.assert_close(out, unfold(expected, 2))


def test_repconv_is_one_zero_padded_convolution():
    """Linear in its input and, at the border, as if zeros stood outside."""
    rep = RepConv(4, dict(type='BN')).double()
    randomize(rep)
    rep.eval()
    x = torch.randn(1, 2, 4, 6, 6, dtype=torch.float64)
    zero = rep(torch.zeros_like(x))
    wide = rep(F.pad(x, [2] * 4))[..., 2:-2, 2:-2]
    torch.testing.assert_close(rep(x), wide)
    torch.testing.assert_close(rep(2 * x) - zero, 2 * (rep(x) - zero))
    torch.testing.assert_close(zero, zero[..., :1, :1].expand_as(zero))


def test_drop_path_drops_whole_samples():
    drop = DropPath(0.4)
    x = torch.ones(3, 200, 2, 4, 4)
    out = drop(x)
    per_sample = out.transpose(0, 1).flatten(1)
    assert ((per_sample == 0).all(1) | (per_sample == per_sample[:, :1]).all(1)).all()
    assert 0.25 < (per_sample[:, 0] == 0).float().mean() < 0.55
    torch.testing.assert_close(per_sample.max(), torch.tensor(1 / 0.6))
    assert torch.equal(drop.eval()(x), x)
    with pytest.raises(ValueError, match='1.0'):
        DropPath(1.0)


def test_repconv_needs_batch_norm():
    with pytest.raises(ValueError, match="batch norm.*'GN'"):
        RepConv(8, dict(type='GN', num_groups=2))


def test_the_neuron_of_an_attention_is_refused_where_half_its_threshold_is_below_rest():
    assert half_threshold(dict(type='LIF')) == dict(type='LIF', v_threshold=0.5)
    assert half_threshold(dict(type='SFA', levels=4)) == dict(type='SFA', levels=4)
    for v_reset in (0.6, 0.5):
        with pytest.raises(ValueError, match=f'half the threshold, 0.5, which must be above v_reset={v_reset}'):
            half_threshold(dict(type='LIF', v_threshold=1.0, v_reset=v_reset))


def test_sums_of_an_attention_are_exact_under_autocast():
    """bfloat16 has no whole numbers above 256 but every second."""
    q, k, v = ((torch.rand(1, 2, 16, 32, 33) < 0.7).float() for _ in 'qkv')
    exact = attend(*(Signal(x.double()) for x in (q, k, v)), 2).x
    sums = sum_over_tokens(Signal(q.double()), Signal(k.double())).x
    assert exact.max() > 1024 and sums.max() > 256
    with torch.autocast('cpu', torch.bfloat16):
        half = [Signal(x.bfloat16()) for x in (q, k, v)]
        assert torch.equal(attend(*half, 2).x.double(), exact)
        assert torch.equal(sum_over_tokens(*half[:2]).x.double(), sums)
