"""LIF, IF and SFA over all time steps as one Triton kernel each way, for CUDA.

The kernels give PyTorch's results bit by bit where they round alike: divisions are rounded to nearest, multiplications and
additions are not contracted. Triton comes with PyTorch's CUDA builds; without it the neurons run as plain PyTorch.
"""

import torch
from torch import Tensor

from .cpu import SURROGATE_CODES

try:
    import triton
    import triton.language as tl
except ImportError:  # PyTorch for other devices brings none, and needs none
    triton = None

BLOCK = 1024
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def usable(x: Tensor) -> bool:
    """Whether there is a kernel for the device and dtype of ``x`` [T, B, ...]."""
    return x.is_cuda and triton is not None and x.dtype in DTYPES


if triton is not None:

    @triton.jit
    def _charge(x, v, tau, v_reset, LEAK: tl.constexpr):
        if LEAK:
            return v + tl.div_rn(x - (v - v_reset), tau)
        return v + x

    @triton.jit
    def _lif_forward(
        x_ptr, v_ptr, s_ptr, last_ptr, N, tau, v_threshold, v_reset,
        T: tl.constexpr, LEAK: tl.constexpr, BLOCK: tl.constexpr,
    ):  # fmt: skip
        at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        inside = at < N
        v = tl.load(v_ptr + at, inside)
        for t in range(T):
            x = tl.load(x_ptr + t * N + at, inside).to(tl.float32)
            h = _charge(x, v, tau, v_reset, LEAK)
            fired = h >= v_threshold
            tl.store(s_ptr + t * N + at, tl.where(fired, 1.0, 0.0).to(s_ptr.dtype.element_ty), inside)
            v = tl.where(fired, v_reset, h)
        tl.store(last_ptr + at, v, inside)

    @triton.jit
    def _lif_backward(
        x_ptr, v_ptr, gs_ptr, gv_ptr, h_ptr, gx_ptr, gv0_ptr, N, tau, v_threshold, v_reset, alpha,
        T: tl.constexpr, LEAK: tl.constexpr, SURROGATE: tl.constexpr, BLOCK: tl.constexpr,
    ):  # fmt: skip
        """Writes the membranes to h in a first sweep over T, and reads them back in the second, in reverse."""
        at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        inside = at < N
        v = tl.load(v_ptr + at, inside)
        for t in range(T):
            h = _charge(tl.load(x_ptr + t * N + at, inside).to(tl.float32), v, tau, v_reset, LEAK)
            tl.store(h_ptr + t * N + at, h, inside)
            v = tl.where(h >= v_threshold, v_reset, h)
        tl.debug_barrier()
        gv = tl.load(gv_ptr + at, inside)
        for i in range(T):
            t = T - 1 - i
            h = tl.load(h_ptr + t * N + at, inside)
            u = h - v_threshold
            if SURROGATE == 0:  # sigmoid
                s = 1.0 / (1.0 + tl.exp(-alpha * u))
                d = alpha * s * (1.0 - s)
            elif SURROGATE == 1:  # atan
                a = 1.5707963267948966 * alpha * u
                d = alpha / 2.0 / (1.0 + a * a)
            else:  # rectangle
                d = tl.where(tl.abs(u) < 0.5 / alpha, alpha, 0.0)
            # the reset is detached: a neuron that fired passes nothing on through its membrane
            gh = tl.load(gs_ptr + t * N + at, inside).to(tl.float32) * d + tl.where(u >= 0, 0.0, gv)
            gx = gh
            gv = gh
            if LEAK:
                gx = gh / tau
                gv = gh - gx
            tl.store(gx_ptr + t * N + at, gx.to(gx_ptr.dtype.element_ty), inside)
        tl.store(gv0_ptr + at, gv, inside)

    @triton.jit
    def _sfa_forward(x_ptr, out_ptr, window_ptr, N, levels, norm, BLOCK: tl.constexpr):
        at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        inside = at < N
        x = tl.load(x_ptr + at, inside).to(tl.float32)
        count = tl.minimum(tl.maximum(x, 0.0), levels)
        # halves to even: above 2^23 float32 has no room for fractions
        count = (count + 8388608.0) - 8388608.0
        tl.store(out_ptr + at, tl.div_rn(count, norm).to(out_ptr.dtype.element_ty), inside)
        tl.store(window_ptr + at, (x >= 0.0) & (x <= levels), inside)


def _like(x: Tensor) -> Tensor:
    """``x`` with its elements in one piece, time outermost."""
    step = x.numel() // x.shape[0]
    dense = torch.ops.aten.is_non_overlapping_and_dense(x[0]) and x.stride(0) == step
    return x if dense else x.contiguous()


def _as(x: Tensor, like: Tensor) -> Tensor:
    return x if x.shape == like.shape and x.stride() == like.stride() else torch.empty_like(like, dtype=x.dtype).copy_(x)


def _grid(n: int) -> tuple[int]:
    return (triton.cdiv(n, BLOCK),)


@torch.library.custom_op('mmspike::lif_forward_triton', mutates_args=())
def lif_forward(x: Tensor, v: Tensor, tau: float | None, v_threshold: float, v_reset: float) -> tuple[Tensor, Tensor]:
    """Spikes [T, …] of x's dtype and the last membrane (float32), from x [T, …] and the first membrane; None: no leak."""
    x = _like(x)
    v = _as(v.float(), x[0])
    spikes, last = torch.empty_like(x), torch.empty_like(v)
    n = v.numel()
    args = n, 1.0 if tau is None else tau, v_threshold, v_reset
    options = dict(T=x.shape[0], LEAK=tau is not None, BLOCK=BLOCK, enable_fp_fusion=False)
    with torch.cuda.device_of(x):  # of several GPUs; nothing for the interpreter on the CPU
        _lif_forward[_grid(n)](x, v, spikes, last, *args, **options)
    return spikes, last


@lif_forward.register_fake
def _(x, v, tau, v_threshold, v_reset):
    return torch.empty_like(x), torch.empty_like(x[0], dtype=torch.float32)


@torch.library.custom_op('mmspike::lif_backward_triton', mutates_args=())
def lif_backward(
    x: Tensor,
    v: Tensor,
    grad_spikes: Tensor,
    grad_v: Tensor,
    tau: float | None,
    v_threshold: float,
    v_reset: float,
    surrogate: str,
    alpha: float,
) -> tuple[Tensor, Tensor]:
    """Gradients of x (its dtype) and of the first membrane (float32)."""
    x = _like(x)
    v, grad_v = _as(v.float(), x[0]), _as(grad_v.float(), x[0])
    grad_spikes = _as(grad_spikes, x)
    grad_x, grad_first = torch.empty_like(x), torch.empty_like(v)
    # in float32 the membranes fit where their gradients will be
    h = grad_x if x.dtype == torch.float32 else torch.empty_like(x, dtype=torch.float32)
    n = v.numel()
    args = n, 1.0 if tau is None else tau, v_threshold, v_reset, alpha
    options = dict(
        T=x.shape[0], LEAK=tau is not None, SURROGATE=SURROGATE_CODES[surrogate], BLOCK=BLOCK, enable_fp_fusion=False
    )
    with torch.cuda.device_of(x):
        _lif_backward[_grid(n)](x, v, grad_spikes, grad_v, h, grad_x, grad_first, *args, **options)
    return grad_x, grad_first


@lif_backward.register_fake
def _(x, v, grad_spikes, grad_v, tau, v_threshold, v_reset, surrogate, alpha):
    return torch.empty_like(x), torch.empty_like(x[0], dtype=torch.float32)


@torch.library.custom_op('mmspike::sfa_forward_triton', mutates_args=())
def sfa_forward(x: Tensor, levels: int, norm: float) -> tuple[Tensor, Tensor]:
    """Counts / norm, and the window of the gradient as bool."""
    if not torch.ops.aten.is_non_overlapping_and_dense(x):
        x = x.contiguous()
    out, window = torch.empty_like(x), torch.empty_like(x, dtype=torch.bool)
    args = x.numel(), float(levels), float(norm)
    with torch.cuda.device_of(x):
        _sfa_forward[_grid(x.numel())](x, out, window, *args, BLOCK=BLOCK, enable_fp_fusion=False)
    return out, window


@sfa_forward.register_fake
def _(x, levels, norm):
    return torch.empty_like(x), torch.empty_like(x, dtype=torch.bool)
