"""SFA, and integer neurons with memory (ILIF, NILIF), which fire counts of 0 to D."""

import torch
from torch import Tensor

from ..layout import dense, in_layout_of, in_one_piece
from .launch import REGISTER_STEPS, jit, operator, start, tl


@jit
def _count(h, levels):
    """round(clip(h, 0, D)), halves to even; NaN stays NaN, which min and max alone would turn into a number."""
    count = tl.minimum(tl.maximum(h, 0.0), levels)
    count = (count + 8388608.0) - 8388608.0  # above 2^23 float32 has no room for fractions
    return tl.where(h == h, count, h)


@jit
def _sfa_forward(x_ptr, out_ptr, window_ptr, N, levels, divisor, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < tl.cast(N, tl.int64)
    x = tl.load(x_ptr + at, inside).to(tl.float32)
    tl.store(out_ptr + at, tl.div_rn(_count(x, levels), divisor).to(out_ptr.dtype.element_ty), inside)
    tl.store(window_ptr + at, (x >= 0.0) & (x <= levels), inside)


@jit
def _sfa_backward(grad_ptr, window_ptr, out_ptr, N, divisor, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < tl.cast(N, tl.int64)
    grad = tl.load(grad_ptr + at, inside).to(tl.float32)
    open_ = tl.load(window_ptr + at, inside).to(tl.int1)
    grad = tl.where(open_, tl.div_rn(grad, divisor), grad * 0.0)  # a NaN stays one
    tl.store(out_ptr + at, grad.to(out_ptr.dtype.element_ty), inside)


@jit
def _code(x, count, levels):
    """A byte: the count (127 for NaN), and 128 where the window of the gradient is open."""
    code = tl.where(x == x, count, 127.0) + tl.where((x >= 0.0) & (x <= levels), 128.0, 0.0)
    return code.to(tl.int32).to(tl.uint8)


@jit
def _through(grad, code, divisor):
    """The gradient of an SFA by its bytes; a NaN stays one."""
    return tl.where(code >= 128, tl.div_rn(grad, divisor), grad * 0.0)


@jit
def _sfa_byte_forward(x_ptr, out_ptr, code_ptr, N, levels, divisor, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < tl.cast(N, tl.int64)
    x = tl.load(x_ptr + at, inside).to(tl.float32)
    count = _count(x, levels)
    tl.store(out_ptr + at, tl.div_rn(count, divisor).to(out_ptr.dtype.element_ty), inside)
    tl.store(code_ptr + at, _code(x, count, levels), inside)


@jit
def _sfa_byte_backward(grad_ptr, code_ptr, out_ptr, N, divisor, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < tl.cast(N, tl.int64)
    grad = tl.load(grad_ptr + at, inside).to(tl.float32)
    grad = _through(grad, tl.load(code_ptr + at, inside), divisor)
    tl.store(out_ptr + at, grad.to(out_ptr.dtype.element_ty), inside)


@jit
def _byte(spikes, divisor):
    """Counts as bytes, to the nearest (a third times three may not be one), and 127 for NaN."""
    count = spikes * divisor + 0.5
    return tl.where(count == count, count, 127.0).to(tl.int32).to(tl.uint8)


@jit
def _pack(s_ptr, code_ptr, N, divisor, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < tl.cast(N, tl.int64)
    tl.store(code_ptr + at, _byte(tl.load(s_ptr + at, inside).to(tl.float32), divisor), inside)


@jit
def _unpack(code_ptr, out_ptr, N, divisor, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < tl.cast(N, tl.int64)
    count = (tl.load(code_ptr + at, inside).to(tl.int32) & 127).to(tl.float32)
    count = tl.where(count == 127.0, float('nan'), count)
    tl.store(out_ptr + at, tl.div_rn(count, divisor).to(out_ptr.dtype.element_ty), inside)


@jit
def _integer_lif_forward(
    x_ptr, v_ptr, s_ptr, last_ptr, N, levels, beta, divisor, T: tl.constexpr, REST: tl.constexpr, BLOCK: tl.constexpr
):
    n = tl.cast(N, tl.int64)
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    v = tl.full([BLOCK], 0.0, tl.float32)
    if not REST:
        v = tl.load(v_ptr + at, inside)
    for t in range(T):
        h = beta * v + tl.load(x_ptr + t * n + at, inside).to(tl.float32)
        count = _count(h, levels)
        tl.store(s_ptr + t * n + at, tl.div_rn(count, divisor).to(s_ptr.dtype.element_ty), inside)
        v = h - count
    tl.store(last_ptr + at, v, inside)


@jit
def _integer_step_back(h, t, n, at, inside, gv, gs_ptr, gx_ptr, levels, beta, divisor):
    gs = tl.div_rn(tl.load(gs_ptr + t * n + at, inside, other=0.0).to(tl.float32), divisor)
    # what was fired is subtracted detached: the membrane passes its gradient on whole
    gh = gv + tl.where((h >= 0.0) & (h <= levels), gs, 0.0)
    tl.store(gx_ptr + t * n + at, gh.to(gx_ptr.dtype.element_ty), inside)
    return gh * beta


@jit
def _integer_lif_backward(
    x_ptr, v_ptr, gs_ptr, gv_ptr, h_ptr, gx_ptr, gfirst_ptr, N, levels, beta, divisor,
    T: tl.constexpr, REST: tl.constexpr, LAST: tl.constexpr, REGISTERS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Recomputes the membranes in a first sweep over T, in registers or in h, and walks back through them in a second."""
    n = tl.cast(N, tl.int64)
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    v = tl.full([BLOCK], 0.0, tl.float32)
    if not REST:
        v = tl.load(v_ptr + at, inside)
    gv = tl.full([BLOCK], 0.0, tl.float32)
    if LAST:
        gv = tl.load(gv_ptr + at, inside)
    if REGISTERS:
        hidden = ()
        for t in tl.static_range(T):
            h = beta * v + tl.load(x_ptr + t * n + at, inside).to(tl.float32)
            hidden = hidden + (h,)
            v = h - _count(h, levels)
        for i in tl.static_range(T):
            gv = _integer_step_back(hidden[T - 1 - i], T - 1 - i, n, at, inside, gv, gs_ptr, gx_ptr, levels, beta, divisor)
    else:
        for t in range(T):
            h = beta * v + tl.load(x_ptr + t * n + at, inside).to(tl.float32)
            tl.store(h_ptr + t * n + at, h, inside)
            v = h - _count(h, levels)
        tl.debug_barrier()
        for i in range(T):
            t = T - 1 - i
            h = tl.load(h_ptr + t * n + at, inside)
            gv = _integer_step_back(h, t, n, at, inside, gv, gs_ptr, gx_ptr, levels, beta, divisor)
    if not REST:
        tl.store(gfirst_ptr + at, gv, inside)


@operator('sfa_forward_triton')
def sfa_forward(x: Tensor, levels: int, divisor: float) -> tuple[Tensor, Tensor]:
    """Counts / divisor of any shape, and the window of the gradient as bool."""
    x = in_one_piece(x)
    out, window = torch.empty_like(x), torch.empty_like(x, dtype=torch.bool)
    start(_sfa_forward, x, x.numel(), x, out, window, x.numel(), float(levels), float(divisor))
    return out, window


@operator('sfa_backward_triton')
def sfa_backward(grad: Tensor, window: Tensor, divisor: float) -> Tensor:
    """Gradient of x in the layout of the window: grad / divisor inside it, 0 outside."""
    grad, out = in_layout_of(window, grad), torch.empty_like(window, dtype=grad.dtype)
    start(_sfa_backward, grad, grad.numel(), grad, window, out, grad.numel(), float(divisor))
    return out


#: counts up to this have room beside the window in a byte, in which 127 stands for NaN
BYTE_LEVELS = 126


@operator('sfa_byte_forward_triton')
def sfa_byte_forward(x: Tensor, levels: int, divisor: float) -> tuple[Tensor, Tensor]:
    """Counts / divisor, and bytes that hold the count (127 for NaN) and, in the highest bit, the window of the gradient."""
    x = in_one_piece(x)
    out, code = torch.empty_like(x), torch.empty_like(x, dtype=torch.uint8)
    start(_sfa_byte_forward, x, x.numel(), x, out, code, x.numel(), float(levels), float(divisor))
    return out, code


@operator('sfa_byte_backward_triton')
def sfa_byte_backward(grad: Tensor, code: Tensor, divisor: float) -> Tensor:
    """Gradient of x in the layout of the bytes."""
    grad, out = in_layout_of(code, grad), torch.empty_like(code, dtype=grad.dtype)
    start(_sfa_byte_backward, grad, grad.numel(), grad, code, out, grad.numel(), float(divisor))
    return out


@operator('pack_triton')
def pack(spikes: Tensor, divisor: float) -> Tensor:
    """Bytes that hold the counts, up to 126, of spikes count / divisor; 127 for NaN."""
    spikes = in_one_piece(spikes)
    code = torch.empty_like(spikes, dtype=torch.uint8)
    start(_pack, spikes, spikes.numel(), spikes, code, spikes.numel(), float(divisor))
    return code


@operator('unpack_triton')
def unpack(code: Tensor, divisor: float, dtype: torch.dtype) -> Tensor:
    """The spikes again."""
    out = torch.empty_like(code, dtype=dtype)
    start(_unpack, out, out.numel(), code, out, out.numel(), float(divisor))
    return out


@operator('integer_lif_forward_triton')
def integer_lif_forward(x: Tensor, v: Tensor | None, levels: int, beta: float, divisor: float) -> tuple[Tensor, Tensor]:
    """Counts / divisor [T, …] of x's dtype and what the last step left (float32), from x [T, …]; v None: from 0."""
    x = dense(x)
    v = None if v is None else in_layout_of(x[0], v.float())
    spikes, last = torch.empty_like(x), torch.empty_like(x[0], dtype=torch.float32)
    n = last.numel()
    start(
        _integer_lif_forward, x, n, x, x if v is None else v, spikes, last, n, float(levels), beta, float(divisor),
        T=x.shape[0], REST=v is None,
    )  # fmt: skip
    return spikes, last


@operator('integer_lif_backward_triton')
def integer_lif_backward(
    x: Tensor, v: Tensor | None, grad_spikes: Tensor, grad_v: Tensor | None, levels: int, beta: float, divisor: float
) -> tuple[Tensor, Tensor]:
    """Gradients of x (its dtype) and of v (float32, empty without one)."""
    x = dense(x)
    grad_spikes, grad_x = in_layout_of(x, grad_spikes), torch.empty_like(x)
    v, grad_v = (None if m is None else in_layout_of(x[0], m.float()) for m in (v, grad_v))
    grad_first = x.new_empty(0, dtype=torch.float32) if v is None else torch.empty_like(x[0], dtype=torch.float32)
    registers = x.shape[0] <= REGISTER_STEPS
    hidden = grad_x if registers or x.dtype == torch.float32 else torch.empty_like(x, dtype=torch.float32)
    n = x[0].numel()
    start(
        _integer_lif_backward, x, n, x, x if v is None else v, grad_spikes, x if grad_v is None else grad_v, hidden, grad_x,
        grad_first, n, float(levels), beta, float(divisor), T=x.shape[0], REST=v is None, LAST=grad_v is not None,
        REGISTERS=registers,
    )  # fmt: skip
    return grad_x, grad_first
