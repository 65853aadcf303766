"""The operations that multiply and accumulate: for each a handler says how many products there are and who meets whom.

``LINEAR_OPS`` maps the name of an operation to a handler (in the spirit of fvcore's table of flop counters). An operation that
is in no table of this package is reported as unknown, see :mod:`mmspike.analysis.op_tables`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from math import ceil, prod

import torch
from torch import Tensor


@dataclass
class Operand:
    """One factor of a linear operation.

    Attributes:
        values: The tensor.
        fanout: How many accumulations all its spikes together cause, from a tensor of spike counts of the same shape.
        source: The argument of the operation that ``values`` is a view of, by which its origin is known.
        summed: The dimension of the values that the operation sums up: channels or features, each with weights of its own.
    """

    values: Tensor
    fanout: Callable[[Tensor], int]
    source: Tensor
    summed: int


@dataclass
class LinearOp:
    """One call of an operation that multiplies and accumulates.

    Attributes:
        op: 'conv', 'depthwise conv', 'transposed conv', 'linear' or 'matmul'.
        macs: Multiply-accumulates of the dense operation, those on zero padding included.
        real_macs: Those on real inputs alone: what spikes everywhere would cause.
        operands: The input, and for products of two features the second one.
        pairs: For two operands: how often a spike of one meets a spike of the other, from both tensors of counts.
        weights: The weights, or the second factor of a product of features (it is read like weights).
        bias: Number of biases.
        inputs, outputs: Elements of the input and of the output.
        taps: Weights that one spike touches per output channel (kernel size); 1 for linear.
        reached_taps: Of them those that lead to an output at this stride, rounded up.
        out_per_group: Output channels that one spike reaches.
        out_channels: Output channels of a convolution; 0 for products of matrices.
    """

    op: str
    macs: int
    real_macs: int
    operands: list[Operand]
    weights: Tensor
    inputs: int
    outputs: int
    bias: int = 0
    taps: int = 1
    reached_taps: int = 1
    out_per_group: int = 1
    out_channels: int = 0
    pairs: Callable[[Tensor, Tensor], int] | None = field(default=None)


def _total(x: Tensor) -> int:
    return round(x.sum(dtype=torch.float64).item())


@lru_cache(maxsize=4096)
def axis_fanout(size: int, out: int, kernel: int, stride: int, padding: int, dilation: int, transposed: bool) -> Tensor:
    """For each of ``size`` positions along one axis: how many outputs a convolution lets it reach. float64 [size]."""
    fan = torch.zeros(size, dtype=torch.float64)
    if transposed:
        position = torch.arange(size)
        for tap in range(kernel):
            reached = position * stride - padding + tap * dilation
            fan += (reached >= 0) & (reached < out)
        return fan
    output = torch.arange(out)
    for tap in range(kernel):
        position = output * stride - padding + tap * dilation
        position = position[(position >= 0) & (position < size)]
        fan[position] += 1  # one output a position for a given tap
    return fan


def _convolution(args, out) -> list[LinearOp]:
    x, w, bias, stride, padding, dilation, transposed, _, groups = args[:9]
    kernel = tuple(w.shape[2:])
    n = len(kernel)
    stride, padding, dilation = ([*v] * n if len(v) == 1 else [*v] for v in (stride, padding, dilation))
    spatial = x.dim() - n
    # weights are [out, in / groups, …], transposed [in, out / groups, …]
    reached_channels = w.shape[1] if transposed else w.shape[0] // groups
    fans = [
        axis_fanout(x.shape[spatial + i], out.shape[spatial + i], kernel[i], stride[i], padding[i], dilation[i], transposed)
        for i in range(n)
    ]

    def fanout(counts: Tensor) -> int:
        y = counts.reshape(-1, *counts.shape[spatial:]).sum(0, dtype=torch.float64)
        for fan in reversed(fans):
            y = y @ fan.to(y.device)
        return round(y.item()) * reached_channels

    positions = x.shape[:spatial].numel() * prod(_total(fan) for fan in fans)
    depthwise = groups > 1 and groups == x.shape[spatial - 1]
    return [
        LinearOp(
            op='transposed conv' if transposed else 'depthwise conv' if depthwise else 'conv',
            macs=(x if transposed else out).numel() * w.shape[1] * prod(kernel),
            real_macs=positions * reached_channels,
            operands=[Operand(x, fanout, x, spatial - 1)],
            weights=w,
            inputs=x.numel(),
            outputs=out.numel(),
            bias=0 if bias is None else bias.numel(),
            taps=prod(kernel),
            reached_taps=prod(ceil(k / s) for k, s in zip(kernel, stride, strict=True)),
            out_per_group=reached_channels,
            out_channels=out.shape[spatial - 1],
        )
    ]


def product_of(a: Tensor, b: Tensor, bias: int = 0, sources: tuple[Tensor, Tensor] | None = None) -> LinearOp:
    """a [..., m, k] @ b [..., k, n]; a spike of ``a`` reaches n outputs, one of ``b`` reaches m.

    Args:
        bias: Number of biases.
        sources: The arguments that ``a`` and ``b`` are views of, if they are.
    """
    sources = sources or (a, b)
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    macs = a.shape[:-2].numel() * m * k * n

    def pairs(counts_a: Tensor, counts_b: Tensor) -> int:
        return _total(counts_a.sum(-2, dtype=torch.float64) * counts_b.sum(-1, dtype=torch.float64))

    return LinearOp(
        op='matmul',
        macs=macs,
        real_macs=macs,
        operands=[Operand(a, lambda c: _total(c) * n, sources[0], -1), Operand(b, lambda c: _total(c) * m, sources[1], -2)],
        weights=b,
        inputs=a.numel(),
        outputs=a.shape[:-2].numel() * m * n,
        bias=bias,
        out_per_group=n,
        pairs=pairs,
    )


def _mm(args, out) -> list[LinearOp]:
    return [product_of(args[0], args[1])]


def _addmm(args, out) -> list[LinearOp]:
    return [product_of(args[1], args[2], args[0].numel())]


def _mv(args, out) -> list[LinearOp]:
    return [product_of(args[0], args[1].unsqueeze(-1), sources=args[:2])]


def _addmv(args, out) -> list[LinearOp]:
    return [product_of(args[1], args[2].unsqueeze(-1), args[0].numel(), args[1:3])]


def _dot(args, out) -> list[LinearOp]:
    return [product_of(args[0].unsqueeze(0), args[1].unsqueeze(-1), sources=args[:2])]


def _fused_attention(args, out) -> list[LinearOp]:
    """softmax(q k^T) v: the second product reads floats on the one side, whatever v is."""
    q, k, v = args[:3]
    shared = q.shape[-3] // k.shape[-3]  # heads of q that share one of k and v
    keys, values = (x if shared == 1 else x.repeat_interleave(shared, -3) for x in (k, v))
    attention = q.new_empty(()).expand(*q.shape[:-1], k.shape[-2])
    second = product_of(attention, values, sources=(attention, v))
    second.operands = second.operands[1:]
    return [product_of(q, keys.transpose(-2, -1), sources=(q, k)), second]


def _deformable(args, out) -> list[LinearOp]:
    """Bilinear sampling, four products of floats each and one more with a mask, then a convolution of what was sampled."""
    x, w, _, mask, bias = args[:5]
    taps = prod(w.shape[2:])
    samples = x.shape[0] * x.shape[1] * taps * out.shape[2:].numel()
    macs = samples * (5 if mask.numel() else 4) + out.numel() * w.shape[1] * taps
    return [
        LinearOp(
            op='deformable conv',
            macs=macs,
            real_macs=macs,
            operands=[],  # whatever x holds, its samples are floats
            weights=w,
            inputs=x.numel(),
            outputs=out.numel(),
            bias=bias.numel(),
            taps=taps,
            reached_taps=taps,
            out_per_group=out.shape[1],
            out_channels=out.shape[1],
        )
    ]


LINEAR_OPS: dict[str, Callable[[tuple, object], list[LinearOp]]] = {
    'aten::convolution': _convolution,
    'torchvision::deform_conv2d': _deformable,
    'aten::mm': _mm,
    'aten::bmm': _mm,
    'aten::addmm': _addmm,
    'aten::baddbmm': _addmm,
    'aten::mv': _mv,
    'aten::addmv': _addmv,
    'aten::dot': _dot,
    'aten::vdot': _dot,
    **{
        f'aten::_scaled_dot_product_{name}': _fused_attention
        for name in (
            'flash_attention',
            'flash_attention_for_cpu',
            'efficient_attention',
            'cudnn_attention',
            'fused_attention_overrideable',
        )
    },
}
