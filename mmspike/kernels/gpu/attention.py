"""Linear attention with the neuron on it, N(q (k^T v) * scale), as two launches forward and two backward, on CUDA."""

from functools import partial

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..norm_neuron import LIF, Neuron
from ..recompute import Recompute, Signal
from .attention_kernels import _attention_factors_back, _attention_forward, _attention_sums_back, _keys_values
from .launch import matrix_units, operator, start_on
from .layers import takes, unpacked
from .norm_neuron import constants, laid_out, laid_out_as, numbers

#: elements of k^T v of a head that a program holds
LARGEST = 64 * 128


def _padded(channels: int) -> int:
    return max(16, 1 << (channels - 1).bit_length())


def _shape(q: Tensor, v: Tensor, heads: int) -> tuple[tuple[int, ...], dict]:
    """Tokens and strides of both, and what is constant, of tensors that :func:`laid_out` gave."""
    innermost, tokens = q.stride(2) == 1, q.shape[3] * q.shape[4]
    sizes = (tokens, q.shape[2], v.shape[2], 1) if innermost else (tokens, 1, 1, tokens)
    d, dv = q.shape[2] // heads, v.shape[2] // heads
    return sizes, dict(HEADS=heads, D=d, DV=dv, PD=_padded(d), PV=_padded(dv))


@operator('keys_values_triton')
def keys_values(k: Tensor, v: Tensor, heads: int) -> Tensor:
    """k^T v in float32, [T, B, heads, d, d_v]."""
    sizes, known = _shape(k, v, heads)
    out = k.new_empty(*k.shape[:2], heads, known['D'], known['DV'], dtype=torch.float32)
    width = min(64, known.pop('PV'))
    grid = k.shape[0] * k.shape[1] * heads, -(-known['DV'] // width)
    start_on(_keys_values, k, grid, k, v, out, *sizes, **known, PV=width, BN=32)
    return out


@operator('attention_forward_triton')
def attention_forward(
    q: Tensor, kv: Tensor, v: Tensor, heads: int, scale: float, neuron: list[float], code: bool
) -> tuple[Tensor, Tensor]:
    """Spikes in the layout and dtype of v, and by choice the same as bytes."""
    sizes, known = _shape(q, v, heads)
    out, codes = torch.empty_like(v), torch.empty_like(v, dtype=torch.uint8) if code else v.new_empty(0, dtype=torch.uint8)
    kind, values, _, _ = constants(neuron)
    width, (T, B) = min(64, known.pop('PV')), q.shape[:2]
    steps = dict(T=T) if kind['KIND'] == LIF else dict(T=1)
    images = B if kind['KIND'] == LIF else T * B
    grid = images * heads, -(-sizes[0] // 32), -(-known['DV'] // width)
    start_on(
        _attention_forward, q, grid, q, kv, out, codes if code else out, images, *sizes, scale, *values, CODE=code, **kind,
        **steps,        **known, PV=width, BN=32,
    )  # fmt: skip
    return out, codes


@operator('attention_sums_back_triton')
def attention_sums_back(
    q: Tensor, kv: Tensor, grad: Tensor, heads: int, scale: float, neuron: list[float]
) -> tuple[Tensor, Tensor]:
    """Gradients of q (k^T v) in float32, [T, B, heads, tokens, d_v], and of q; grad is that of the spikes, laid out as q."""
    sizes, known = _shape(q, grad, heads)
    (T, B), tokens = q.shape[:2], sizes[0]
    sums, grad_q = q.new_empty(T, B, heads, tokens, known['DV'], dtype=torch.float32), torch.empty_like(q)
    kind, _, values, surrogate = constants(neuron)
    steps, images = (T, B) if kind['KIND'] == LIF else (1, T * B)
    rows = 16 if steps * known['PV'] > 256 else 32
    start_on(
        _attention_sums_back, q, (images * heads, -(-tokens // rows)), q, kv, grad, sums, grad_q, images, *sizes, scale,
        *values,        **kind, T=steps, SURROGATE=surrogate, **known, BN=rows,
    )  # fmt: skip
    return sums, grad_q


@operator('attention_factors_back_triton')
def attention_factors_back(q: Tensor, k: Tensor, v: Tensor, sums: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """Gradients of k and v."""
    sizes, known = _shape(q, v, heads)
    grad_k, grad_v = torch.empty_like(k), torch.empty_like(v)
    grid = (q.shape[0] * q.shape[1] * heads,)
    start_on(_attention_factors_back, q, grid, q, k, v, sums, grad_k, grad_v, *sizes, **known, BN=32, num_stages=1)
    return grad_k, grad_v


class _Attention(torch.autograd.Function):
    """Saves k^T v and what q, k and v are computed from anew."""

    @staticmethod
    def forward(ctx, q, k, v, anew, heads, scale, neuron):
        kv = keys_values(k, v, heads)
        out, code = attention_forward(q, kv, v, heads, scale, numbers(neuron), True)
        ctx.save_for_backward(kv, *(t for a in anew for t in a.tensors))
        ctx.anew = [(a.compute, len(a.tensors)) for a in anew]
        ctx.given = heads, scale, neuron
        ctx.mark_non_differentiable(code)
        ctx.set_materialize_grads(False)
        return out, code

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, _):
        kv, *kept = ctx.saved_tensors
        heads, scale, neuron = ctx.given
        factors = []
        for compute, n in ctx.anew:
            factors.append(laid_out(compute(*kept[:n])))
            kept = kept[n:]
        q, k, v = factors
        sums, grad_q = attention_sums_back(q, kv, laid_out_as(grad, v), heads, scale, numbers(neuron))
        return grad_q, *attention_factors_back(q, k, v, sums, heads), *[None] * 4


def attend(neuron: Neuron, q: Signal, k: Signal, v: Signal, heads: int, scale: float) -> Signal | None:
    """``neuron(q (k^T v) * scale)`` of spikes in one layout; None: the kernels do not take them."""
    xs = [laid_out(s.x) for s in (q, k, v)]
    innermost = {x.stride(2) == 1 for x in xs}
    if len(innermost) > 1 or len({x.dtype for x in xs}) > 1 or not takes(neuron, xs[0].shape[0]):
        return None
    d, dv = xs[0].shape[2] // heads, xs[2].shape[2] // heads
    if _padded(d) * _padded(dv) > LARGEST or xs[0].shape[3] * xs[0].shape[4] == 1 or not matrix_units(xs[0]):
        return None
    if not (torch.is_grad_enabled() and any(x.requires_grad for x in xs)):
        return Signal(attention_forward(xs[0], keys_values(*xs[1:], heads), xs[2], heads, scale, numbers(neuron), False)[0])
    anew = [s._replace(x=x).back() for s, x in zip((q, k, v), xs, strict=True)]
    spikes, code = _Attention.apply(*xs, anew, heads, scale, neuron)
    divisor = float(neuron.divisor)
    return Signal(spikes, divisor, None, Recompute(partial(unpacked, divisor, spikes.dtype), (code,)))
