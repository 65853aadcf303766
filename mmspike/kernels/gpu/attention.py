"""Linear attention with the neuron on it, N(q (k^T v) * scale), as two launches forward and two backward, on CUDA."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..layout import fold, in_layout_of, unfold
from ..norm_neuron import LIF, Neuron
from ..recompute import Signal, derived
from .attention_kernels import _attention_factors_back, _attention_forward, _attention_sums_back, _keys_values
from .launch import matrix_units, operator, start_on
from .layers import coded, takes
from .norm_neuron import constants, laid_out, laid_out_like, numbers

#: elements of k^T v of a head that a program holds
LARGEST = 64 * 128


def _padded(channels: int) -> int:
    return max(16, 1 << (channels - 1).bit_length())


def _parts(x: Tensor, d: int, dv: int) -> tuple[Tensor, Tensor, Tensor]:
    """q, k and v of all heads, views."""
    q, k, v = x.split((d, d, dv), 2)
    return q, k, v


def _strides(x: Tensor) -> tuple[int, int, int]:
    """Strides of image, token and channel of a tensor that :func:`laid_out` gave, or of channels of it."""
    return x.stride(1), x.stride(4), x.stride(2)


def _known(heads: int, d: int, dv: int) -> dict:
    return dict(HEADS=heads, D=d // heads, DV=dv // heads, PD=_padded(d // heads), PV=_padded(dv // heads))


def _images(x: Tensor, kind: int) -> tuple[int, int]:
    """Steps that a program walks over, and images."""
    T, B = x.shape[:2]
    return (T, B) if kind == LIF else (1, T * B)


@operator('keys_values_triton')
def keys_values(x: Tensor, heads: int, d: int, dv: int) -> Tensor:
    """k^T v in float32, [T, B, heads, d / heads, dv / heads], of q, k and v side by side, [T, B, d + d + dv, H, W]."""
    known, (_, k, v) = _known(heads, d, dv), _parts(x, d, dv)
    out = x.new_empty(*x.shape[:2], heads, known['D'], known['DV'], dtype=torch.float32)
    width = min(64, known.pop('PV'))
    grid = x.shape[0] * x.shape[1] * heads, -(-known['DV'] // width)
    start_on(_keys_values, x, grid, k, v, out, x.shape[3] * x.shape[4], *_strides(x), **known, PV=width, BN=32)
    return out


@operator('attention_forward_triton')
def attention_forward(
    x: Tensor, kv: Tensor, heads: int, d: int, dv: int, scale: float, neuron: list[float], code: bool
) -> tuple[Tensor, Tensor]:
    """Spikes [T, B, dv, H, W] in the layout and dtype of x, and by choice the same as bytes."""
    known, (q, _, v) = _known(heads, d, dv), _parts(x, d, dv)
    out = laid_out_like(v)
    codes = torch.empty_like(out, dtype=torch.uint8) if code else x.new_empty(0, dtype=torch.uint8)
    kind, values, _, _ = constants(neuron)
    (steps, images), tokens, width = _images(x, kind['KIND']), x.shape[3] * x.shape[4], min(64, known.pop('PV'))
    start_on(
        _attention_forward, x, (images * heads, -(-tokens // 32), -(-known['DV'] // width)), q, kv, out, codes if code else out,
        images, tokens, *_strides(x)[:2], *_strides(out), scale, *values, CODE=code, **kind, T=steps, **known, PV=width, BN=32,
    )  # fmt: skip
    return out, codes


@operator('attention_backward_triton')
def attention_backward(
    x: Tensor, kv: Tensor, grad: Tensor, heads: int, d: int, dv: int, scale: float, neuron: list[float]
) -> Tensor:
    """Gradient of x from that of the spikes, which is laid out as they are."""
    known, (q, k, v) = _known(heads, d, dv), _parts(x, d, dv)
    grad_x = torch.empty_like(x)
    grad_q, grad_k, grad_v = _parts(grad_x, d, dv)
    kind, _, values, surrogate = constants(neuron)
    (steps, images), tokens = _images(x, kind['KIND']), x.shape[3] * x.shape[4]
    sums = x.new_empty(*x.shape[:2], heads, tokens, known['DV'], dtype=torch.float32)
    rows = 16 if steps * known['PV'] > 256 else 32
    start_on(
        _attention_sums_back, x, (images * heads, -(-tokens // rows)), q, kv, grad, sums, grad_q, images, tokens,
        *_strides(x)[:2], *_strides(grad), scale, *values, **kind, T=steps, SURROGATE=surrogate, **known, BN=rows,
    )  # fmt: skip
    start_on(
        _attention_factors_back, x, (x.shape[0] * x.shape[1] * heads,), q, k, v, sums, grad_k, grad_v, tokens, *_strides(x),
        **known, BN=32, num_stages=1,
    )  # fmt: skip
    return grad_x


class _Attention(torch.autograd.Function):
    """Saves k^T v and what q, k and v are computed from anew."""

    @staticmethod
    def forward(ctx, x, anew, *given):
        heads, d, dv, scale, neuron = given
        kv = keys_values(x, heads, d, dv)
        out, code = attention_forward(x, kv, heads, d, dv, scale, numbers(neuron), True)
        ctx.save_for_backward(kv, *anew.tensors)
        ctx.compute, ctx.given = anew.compute, given
        ctx.mark_non_differentiable(code)
        ctx.set_materialize_grads(False)
        return out, code

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, _):
        kv, *kept = ctx.saved_tensors
        heads, d, dv, scale, neuron = ctx.given
        x = laid_out(ctx.compute(*kept))
        grad = in_layout_of(laid_out_like(_parts(x, d, dv)[2]), grad)
        return attention_backward(x, kv, grad, heads, d, dv, scale, numbers(neuron)), *[None] * 6


def side_by_side(q: Signal, k: Signal, v: Signal) -> Signal:
    """Three tensors as one, whose channels are theirs."""
    return Signal(_joined(q.x, k.x, v.x), q.divisor, anew=derived(_joined, q.back(), k.back(), v.back()))


def _joined(*xs: Tensor) -> Tensor:
    return unfold(torch.cat([fold(x) for x in xs], 1), xs[0].shape[0])


def takes_heads(x: Tensor, neuron: Neuron | None, heads: int, d: int, dv: int) -> bool:
    """The kernels compute an attention of ``d`` channels of q and of k and ``dv`` of v on the device of x [T, B, C, H, W]."""
    small = _padded(d // heads) * _padded(dv // heads) <= LARGEST and x.shape[3] * x.shape[4] > 1
    return small and takes(neuron, x.shape[0]) and matrix_units(x)


def attend(neuron: Neuron, signal: Signal, heads: int, d: int, dv: int, scale: float) -> Signal:
    """``neuron(q (k^T v) * scale)`` of spikes side by side."""
    x = laid_out(signal.x)
    if not (torch.is_grad_enabled() and x.requires_grad):
        kv = keys_values(x, heads, d, dv)
        return Signal(attention_forward(x, kv, heads, d, dv, scale, numbers(neuron), False)[0])
    spikes, code = _Attention.apply(x, signal._replace(x=x).back(), heads, d, dv, scale, neuron)
    divisor = float(neuron.divisor)
    return Signal(spikes, divisor, None, coded(code, divisor, spikes.dtype))
