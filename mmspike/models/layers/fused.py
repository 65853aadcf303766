"""What makes blocks lean and fast on the CPU: norm + neuron, convolution and attention of spikes as single nodes of the graph.

A norm's output and the membranes and spikes behind it follow from the norm's input: only that is saved for the backward pass.
Spikes are saved as counts of one byte. Tensors are [T, B, C, H, W] with channels innermost in memory.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils._python_dispatch import _get_current_dispatch_mode

from mmspike.kernels import amx, cpu
from mmspike.models.neurons import IF, LIF, PLIF, SFA

from .temporal import fold, unfold

_KINDS = {LIF: 0, SFA: 1, nn.Identity: 2}


def _struct(real: type) -> type:
    fields: list[tuple[str, type]] = [(k, ctypes.c_int) for k in ('kind', 'leak', 'surrogate')]
    fields += [(k, real) for k in ('tau', 'v_threshold', 'v_reset', 'alpha', 'levels', 'norm')]
    return type('Neuron', (ctypes.Structure,), dict(_fields_=fields))


_STRUCTS = {torch.float32: _struct(ctypes.c_float), torch.float64: _struct(ctypes.c_double)}


def fusable_neuron(neuron: nn.Module) -> bool:
    """Whether there is a fused norm + neuron for it."""
    if type(neuron) is SFA and neuron.rounding != 'even':
        return False
    return type(neuron) in _KINDS and not getattr(neuron, 'stateful', False)


def count_norm(neuron: nn.Module) -> float | None:
    """What a neuron's counts are divided by, if they fit in a byte; else None."""
    if type(neuron) in (LIF, PLIF, IF):
        return 1.0
    if type(neuron) is SFA and neuron.levels < 256:
        return float(neuron.norm)
    return None


def _arguments(neuron: nn.Module, dtype: torch.dtype) -> ctypes.Structure:
    args = _STRUCTS[dtype](kind=_KINDS[type(neuron)])
    if isinstance(neuron, LIF):
        args.leak, args.surrogate = 1, cpu.SURROGATE_CODES[neuron.surrogate]
        args.tau, args.v_threshold, args.v_reset, args.alpha = neuron.tau, neuron.v_threshold, neuron.v_reset, neuron.alpha
    elif isinstance(neuron, SFA):
        args.levels, args.norm = neuron.levels, neuron.norm
    return args


def _rows(x: Tensor) -> Tensor:
    """[T, B, C, H, W] -> [T, B, H, W, C], contiguous; a view of channels-last memory."""
    return x.permute(0, 1, 3, 4, 2).contiguous()


def _images(x: Tensor) -> Tensor:
    """[T, B, H, W, C] -> [T, B, C, H, W], a view."""
    return x.permute(0, 1, 4, 2, 3)


def _sizes(y: Tensor) -> list[ctypes.c_int64]:
    """T, rows a time step, channels of [T, B, H, W, C]."""
    T, B, H, W, C = y.shape
    return [ctypes.c_int64(n) for n in (T, B * H * W, C)]


class Origin(NamedTuple):
    """What a tensor [T, B, C, H, W] can be computed from anew in the backward pass: it need not be saved then."""

    compute: Callable[..., Tensor]
    tensors: tuple[Tensor | None, ...]


def batch_statistics(y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel of [T, B, C, H, W], without gradient."""
    y = _rows(y.detach())
    C = y.shape[-1]
    rows = ctypes.c_int64(y.numel() // C), ctypes.c_int64(C)
    mean, var = y.new_empty(C), y.new_empty(C)
    partial = y.new_empty(cpu.call('norm_blocks', y.dtype, *rows), 2, C, dtype=torch.float64)
    cpu.check(cpu.call('norm_statistics', y.dtype, *cpu.pointers(y, mean, var, partial), *rows))
    return mean, var


def _norm_neuron_forward(y: Tensor, scale: Tensor, shift: Tensor, neuron: nn.Module, count: bool = False) -> Tensor:
    """N(y * scale + shift), as counts of one byte if ``count``; all [T, B, H, W, C]."""
    out = torch.empty_like(y, dtype=torch.uint8 if count else y.dtype)
    args = ctypes.byref(_arguments(neuron, y.dtype))
    tensors = cpu.pointers(y, scale, shift, *((None, out) if count else (out, None)))
    cpu.check(cpu.call('norm_neuron_forward', y.dtype, *tensors, *_sizes(y), args))
    return out


class _NormNeuron(torch.autograd.Function):
    """N(norm(y)): saves y, or what y is computed from, and computes everything else anew in the backward pass."""

    @staticmethod
    def forward(ctx, y, weight, bias, eps, mean, inverse, scale, shift, training, neuron, origin, count):
        y = _rows(y)
        out = _images(_norm_neuron_forward(y, scale, shift, neuron, count))
        ctx.save_for_backward(scale, shift, mean, inverse, weight, *((y,) if origin is None else origin.tensors))
        ctx.compute = None if origin is None else origin.compute
        ctx.training, ctx.neuron, ctx.count = training, neuron, count
        if not count:
            return out
        ctx.mark_non_differentiable(out)
        return y.new_zeros(()).expand(out.shape), out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, *_):
        scale, shift, mean, inverse, weight, *saved = ctx.saved_tensors
        y = saved[0] if ctx.compute is None else _rows(ctx.compute(*saved))
        rows = _rows(grad)
        sizes = _sizes(y)
        # the gradient of counts comes from one convolution, and nobody else holds it
        grad_y, sums = rows if ctx.count else torch.empty_like(y), y.new_empty(2, y.shape[-1])
        partial = y.new_empty(cpu.call('norm_blocks', y.dtype, *sizes[1:]), 2, y.shape[-1], dtype=torch.float64)
        tensors = cpu.pointers(y, rows, scale, shift, mean, inverse, grad_y, sums, partial)
        args = ctypes.byref(_arguments(ctx.neuron, y.dtype))
        cpu.check(cpu.call('norm_neuron_backward', y.dtype, *tensors, *sizes, ctypes.c_int(ctx.training), args))
        grad_bias, dot = sums
        grad_weight = dot * inverse
        grad_eps = -0.5 * dot * weight * inverse**3 if ctx.needs_input_grad[3] else None
        return _images(grad_y), grad_weight, grad_bias, grad_eps, *[None] * 8


def norm_neuron(
    norms: Sequence[nn.BatchNorm2d],
    neuron: nn.Module,
    y: Tensor,
    offset: Callable[[], Tensor] | None = None,
    origin: Origin | None = None,
    count: bool = False,
) -> tuple[Tensor, Tensor | None, Origin | None]:
    """``neuron(norm(y))``, ``neuron(norms[1](norms[0](y)))`` for two norms, on [T, B, C, H, W]; ``nn.Identity`` is no neuron.

    Args:
        offset: Gives what is subtracted from the output of a single norm [C], without gradient; called when the running
            statistics are up to date.
        origin: That of y.
        count: Give spikes as counts of one byte, behind a tensor of the right shape that stands for them in the graph: for a
            single :func:`spike_conv`.

    Returns:
        The output, its counts if asked for, and its origin if there is no neuron.
    """
    norm = norms[0]
    training = norm.training
    mean, var = batch_statistics(y) if training else (norm.running_mean, norm.running_var)
    if training:
        n = y.numel() // y.shape[2]
        update_running(norm, mean, var, n)
        if len(norms) == 2:
            update_running(norms[1], norm.bias, norm.weight.square() * var / (var + norm.eps), n)
    weight, bias, eps = norm.weight, norm.bias, norm.eps
    if len(norms) == 2:
        weight, bias, eps = _merged(*norms)
    elif offset is not None:
        bias = bias - offset()
    with torch.no_grad():
        inverse = (var + eps).rsqrt()
        scale = weight * inverse
        shift = bias - mean * scale
        # a byte holds no NaN: it is to reach the loss, where it is noticed
        count = count and bool(shift.isfinite().all())
    out = _NormNeuron.apply(y, weight, bias, eps, mean, inverse, scale, shift, training, neuron, origin, count)
    if type(neuron) is not nn.Identity:
        return *(out if count else (out, None)), None
    tensors = (y.detach(),) if origin is None else origin.tensors
    return out, None, Origin(partial(_affine, None if origin is None else origin.compute), (scale, shift, *tensors))


def _affine(compute: Callable[..., Tensor] | None, scale: Tensor, shift: Tensor, *tensors: Tensor) -> Tensor:
    y = tensors[0] if compute is None else compute(*tensors)
    return _images(_norm_neuron_forward(_rows(y), scale, shift, nn.Identity()))


def _merged(first: nn.BatchNorm2d, second: nn.BatchNorm2d) -> tuple[Tensor, Tensor, Tensor | float]:
    """Weight, bias and eps of the one norm that equals two in a row, with the statistics of the first's input."""
    if not first.training:
        weight = second.weight * (second.running_var + second.eps).rsqrt()
        return first.weight * weight, (first.bias - second.running_mean) * weight + second.bias, first.eps
    # the first's output has the mean `bias` and the variance weight^2 var / (var + eps)
    square = first.weight.square() + second.eps
    # the second takes the first's bias away again: it has the gradient 0, and not none
    return second.weight * first.weight * square.rsqrt(), second.bias + 0 * first.bias, second.eps * first.eps / square


@torch.no_grad()
def update_running(norm: nn.BatchNorm2d, mean: Tensor, var: Tensor, n: int) -> None:
    """Move a norm's running statistics towards those of a batch of ``n`` values a channel."""
    norm.num_batches_tracked.add_(1)
    norm.running_mean.lerp_(mean, norm.momentum)
    norm.running_var.lerp_(var * (n / (n - 1)), norm.momentum)


class _SpikeConv(torch.autograd.Function):
    """Convolution whose input is saved as one byte an element."""

    @staticmethod
    def forward(ctx, s, weight, bias, stride, padding, dilation, groups, counts, norm, origin):
        ctx.matrix_units = counts is not None and amx.fits(s, weight, stride, padding, dilation, groups)
        if ctx.matrix_units:
            out = amx.conv(counts, norm, weight, bias)
        else:
            out = F.conv2d(s, weight, bias, stride, padding, dilation, groups)
        ctx.compute = None
        if not ctx.needs_input_grad[1]:
            saved = (None,)
        elif counts is not None:
            saved = (counts,)
        elif origin is not None:
            saved, ctx.compute = origin.tensors, origin.compute
        else:
            saved = (s,)
        ctx.save_for_backward(weight, *saved)
        ctx.shape, ctx.norm, ctx.args = s.shape, norm, (stride, padding, dilation, groups)
        ctx.bias_sizes = None if bias is None else [len(bias)]
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        weight, *saved = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.args
        need_input, need_weight, need_bias = ctx.needs_input_grad[:3]
        grad = grad.contiguous(memory_format=torch.channels_last)
        k = weight.shape[-1]
        if ctx.matrix_units:
            grad_input = amx.conv_input_gradient(grad, weight) if need_input else None
            grad_weight = amx.conv_weight_gradient(saved[0], ctx.norm, grad, k) if need_weight else None
            grad_bias = grad.sum((0, 2, 3)) if need_bias else None
        else:
            if ctx.compute is not None:
                s = fold(ctx.compute(*saved))
            elif saved[0] is None:
                s = grad.new_empty(()).expand(ctx.shape)  # of this the gradient of the input takes the shape only
            else:
                s = saved[0] if ctx.norm is None else unpack(saved[0], ctx.norm, grad.dtype)
            own = need_weight and depthwise_fits(weight, stride, padding, dilation, groups)
            mask = [need_input, need_weight and not own, need_bias]
            grad_input, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
                grad, s, weight, ctx.bias_sizes, stride, padding, dilation, False, [0, 0], groups, mask
            )
            if own:
                grad_weight = depthwise_weight_gradient(s, grad, k)
        return grad_input, grad_weight, grad_bias, *[None] * 7


def pack(s: Tensor, norm: float) -> Tensor | None:
    """Spikes count / norm as counts (uint8), in the same memory layout; None if there is a NaN, which a byte cannot hold."""
    s = s.contiguous(memory_format=torch.channels_last)
    counts = torch.empty_like(s, dtype=torch.uint8)
    nan = cpu.call('pack', s.dtype, *cpu.pointers(s, counts), ctypes.c_int64(s.numel()), *cpu.reals(s.dtype, norm))
    return None if nan else counts


def unpack(counts: Tensor, norm: float, dtype: torch.dtype) -> Tensor:
    s = torch.empty_like(counts, dtype=dtype)
    cpu.call('unpack', dtype, *cpu.pointers(counts, s), ctypes.c_int64(s.numel()), *cpu.reals(dtype, norm))
    return s


def depthwise_fits(weight: Tensor, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], groups: int) -> bool:
    """Whether :func:`depthwise_weight_gradient` covers a convolution of these arguments."""
    k = weight.shape[-1]
    return (
        groups == weight.shape[0] >= 16
        and weight.shape[1] == 1
        and weight.shape[-2] == k
        and k in (3, 5, 7)
        and tuple(stride) == tuple(dilation) == (1, 1)
        and tuple(padding) == (k // 2, k // 2)
    )


def depthwise_weight_gradient(x: Tensor, grad: Tensor, k: int) -> Tensor:
    """Gradient of the weight [C, 1, k, k] of a depthwise convolution of x [B, C, H, W] with 'same' padding."""
    B, C, H, W = x.shape
    x, grad = (a.permute(0, 2, 3, 1).contiguous() for a in (x, grad))
    strips = cpu.call('depthwise_strips', x.dtype, ctypes.c_int64(H))
    partial = x.new_empty(B * strips, k, k, C)
    sizes = [ctypes.c_int64(n) for n in (B, H, W, C)]
    cpu.call('depthwise_weight', x.dtype, *cpu.pointers(x, grad, partial), *sizes, ctypes.c_int(k))
    return partial.sum(0).permute(2, 0, 1).unsqueeze(1).contiguous()


def takes_counts(conv: nn.Module, x: Tensor) -> bool:
    """Whether ``conv`` on ``x`` [T, B, C, H, W] would read counts of one byte."""
    return fusable_conv(conv) and amx.fits(x, conv.weight, conv.stride, conv.padding, conv.dilation, conv.groups)


def spike_conv(
    conv: nn.Conv2d,
    x: Tensor,
    norm: float | None,
    counts: Tensor | None = None,
    origin: Origin | None = None,
    bias: Tensor | None = None,
    padding: tuple[int, int] | None = None,
) -> tuple[Tensor, Origin | None]:
    """``conv`` on [T, B, C, H, W], and the output's origin, where computing it anew is quick and saves memory.

    Args:
        norm: ``x`` are counts divided by it, and saved as bytes. None: it is no spikes, and saved as it is.
        counts: Those of x, where they are at hand.
        origin: That of x.
        bias, padding: In place of the convolution's own.
    """
    bias = conv.bias if bias is None else bias
    stride, padding = conv.stride, conv.padding if padding is None else padding
    if conv.kernel_size == (1, 1) and stride != (1, 1) and padding == (0, 0):
        # it reads every second pixel alone. PyTorch (2.11 to 2.14) crashes in its backward pass on some CPUs
        x = x[..., :: stride[0], :: stride[1]]
        counts = None if counts is None else counts[..., :: stride[0], :: stride[1]]
        stride, origin = (1, 1), None
    args = stride, padding, conv.dilation, conv.groups
    s, after = fold(x), None
    if norm is not None:
        quick = takes_counts(conv, x)
        if counts is not None:
            counts = fold(counts)
        elif quick or (torch.is_grad_enabled() and conv.weight.requires_grad):
            counts = pack(s, norm)
        norm = None if counts is None else norm
        products = conv.weight[0].numel()  # for an element of the output
        if quick and norm is not None and products < 1000 and conv.out_channels >= conv.in_channels:
            after = Origin(partial(_conv_anew, norm, x.shape[0]), (counts, conv.weight, bias))
    return unfold(_SpikeConv.apply(s, conv.weight, bias, *args, counts, norm, origin), x.shape[0]), after


def _conv_anew(norm: float, T: int, counts: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return unfold(amx.conv(counts, norm, weight, bias), T)


class _SpikeAttention(torch.autograd.Function):
    """q (k^T v) on spikes, which are saved as one byte an element."""

    @staticmethod
    def forward(ctx, q, k, v, heads, norm):
        out = _heads(q, heads) @ (_heads(k, heads).transpose(-2, -1) @ _heads(v, heads))
        counts = [pack(fold(x), norm) for x in (q, k, v)]
        ctx.finite = all(c is not None for c in counts)
        ctx.save_for_backward(*(counts if ctx.finite else map(fold, (q, k, v))))
        ctx.heads, ctx.norm = heads, norm
        return _join(out, v.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        T, heads = grad.shape[0], ctx.heads
        spikes = [unfold(unpack(x, ctx.norm, grad.dtype) if ctx.finite else x, T) for x in ctx.saved_tensors]
        shapes = [x.shape for x in spikes]
        q, k, v = (_heads(x, heads) for x in spikes)
        grad = _heads(grad, heads)
        kv = k.transpose(-2, -1) @ v
        grad_kv = q.transpose(-2, -1) @ grad
        grads = (grad @ kv.transpose(-2, -1), v @ grad_kv.transpose(-2, -1), k @ grad_kv)
        return *(_join(g, s) for g, s in zip(grads, shapes, strict=True)), None, None


def _heads(x: Tensor, heads: int) -> Tensor:
    """[T, B, C, H, W] -> [T*B, heads, H*W, C / heads]."""
    return _rows(x).view(-1, x.shape[-2] * x.shape[-1], heads, x.shape[2] // heads).transpose(1, 2).contiguous()


def _join(x: Tensor, shape: Sequence[int]) -> Tensor:
    """[T*B, heads, H*W, C / heads] -> [T, B, C, H, W] of ``shape``, channels innermost in memory."""
    T, B, C, H, W = shape
    return _images(x.transpose(1, 2).reshape(T, B, H, W, C))


def spike_attention(q: Tensor, k: Tensor, v: Tensor, heads: int, norm: float) -> Tensor:
    """q (k^T v) for spikes [T, B, C, H, W] (v may be wider), heads apart: [T, B, C_v, H, W]."""
    return _SpikeAttention.apply(q, k, v, heads, norm)


def hooked(module: nn.Module) -> bool:
    """Whether somebody listens to a module, who may change what it puts out."""
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks)


def fusable(x: Tensor, *modules: nn.Module) -> bool:
    """Whether ``modules`` may be bypassed by the functions here: nobody listens to them, and they do nothing special."""
    return (
        cpu.usable(x)
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not torch.is_autocast_enabled('cpu')
        and _get_current_dispatch_mode() is None  # which counts operations, or makes tensors without memory
        and type(x) is Tensor
        and x.numel() > x.shape[2]
        and not any(map(hooked, modules))
        and not nn.modules.module._has_any_global_hook()
    )


def fusable_norm(norm: nn.Module) -> bool:
    return type(norm) is nn.BatchNorm2d and norm.affine and norm.track_running_stats and norm.momentum is not None


def fusable_conv(conv: nn.Module) -> bool:
    return type(conv) is nn.Conv2d and conv.padding_mode == 'zeros' and not isinstance(conv.padding, str)
