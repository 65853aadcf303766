"""LIF, PLIF and IF: charge, fire and reset over T steps in one kernel, and its gradient in another."""

import torch
from torch import Tensor

from ..layout import dense, in_layout_of
from ..operators import SURROGATE_CODES
from .launch import BLOCK, REGISTER_STEPS, jit, operator, start, tl

NO_LEAK, TAU, DECAY = 0, 1, 2


@jit
def _charge(x, v, tau, v_reset, LEAK: tl.constexpr):
    if LEAK == 1:
        return v + tl.div_rn(x - (v - v_reset), tau)
    if LEAK == 2:
        return v + (x - (v - v_reset)) * tau
    return v + x


@jit
def _fire(h, v_threshold, v_reset):
    """Spikes of the membrane h, and the membrane behind the reset."""
    fired = h >= v_threshold
    spikes = tl.where(h == h, tl.where(fired, 1.0, 0.0), h)  # a NaN never fires, but must be seen
    return spikes, tl.where(fired, v_reset, h)


@jit
def _derivative(u, alpha, SURROGATE: tl.constexpr):
    if SURROGATE == 0:  # sigmoid
        s = 1.0 / (1.0 + tl.exp(-alpha * u))
        return alpha * s * (1.0 - s)
    if SURROGATE == 1:  # atan
        a = 1.5707963267948966 * alpha * u
        return alpha / 2.0 / (1.0 + a * a)
    return tl.where(tl.abs(u) < 0.5 / alpha, alpha, 0.0)  # rectangle


@jit
def _lif_forward(
    x_ptr, v_ptr, decay_ptr, s_ptr, last_ptr, N, tau, v_threshold, v_reset,
    T: tl.constexpr, LEAK: tl.constexpr, REST: tl.constexpr, LAST: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    n = tl.cast(N, tl.int64)  # T * N may pass 2^31
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    if LEAK == 2:
        tau = tl.load(decay_ptr)
    v = tl.full([BLOCK], 0.0, tl.float32) + v_reset
    if not REST:
        v = tl.load(v_ptr + at, inside)
    for t in range(T):
        h = _charge(tl.load(x_ptr + t * n + at, inside).to(tl.float32), v, tau, v_reset, LEAK)
        spikes, v = _fire(h, v_threshold, v_reset)
        tl.store(s_ptr + t * n + at, spikes.to(s_ptr.dtype.element_ty), inside)
    if LAST:
        tl.store(last_ptr + at, v, inside)


@jit
def _step_back(
    h, v, x, t, n, at, inside, gv, gdecay, gs_ptr, gx_ptr, tau, v_threshold, v_reset, alpha,
    LEAK: tl.constexpr, SURROGATE: tl.constexpr,
):  # fmt: skip
    """One step of the backward pass: gradients of the membrane before it and of decay, and that of x written."""
    u = h - v_threshold
    # the reset is detached: a neuron that fired passes nothing on through its membrane
    gh = tl.load(gs_ptr + t * n + at, inside, other=0.0).to(tl.float32) * _derivative(u, alpha, SURROGATE)
    gh += tl.where(u >= 0, 0.0, gv)
    gx = gh
    gv = gh
    if LEAK == 1:
        gx = gh / tau
        gv = gh - gx
    if LEAK == 2:
        gx = gh * tau
        gv = gh - gx
        gdecay += tl.where(inside, gh * (x - (v - v_reset)), 0.0)
    tl.store(gx_ptr + t * n + at, gx.to(gx_ptr.dtype.element_ty), inside)
    return gv, gdecay


@jit
def _lif_backward(
    x_ptr, v_ptr, decay_ptr, gs_ptr, gv_ptr, h_ptr, gx_ptr, gfirst_ptr, gdecay_ptr, N, tau, v_threshold, v_reset, alpha,
    T: tl.constexpr, LEAK: tl.constexpr, SURROGATE: tl.constexpr, REST: tl.constexpr, LAST: tl.constexpr,
    REGISTERS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Recomputes the membranes in a first sweep over T, in registers or in h, and walks back through them in a second."""
    n = tl.cast(N, tl.int64)
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    if LEAK == 2:
        tau = tl.load(decay_ptr)
    rest = tl.full([BLOCK], 0.0, tl.float32) + v_reset
    v = rest
    if not REST:
        v = tl.load(v_ptr + at, inside)
    first = v
    gv = tl.full([BLOCK], 0.0, tl.float32)
    if LAST:
        gv = tl.load(gv_ptr + at, inside)
    gdecay = tl.full([BLOCK], 0.0, tl.float32)
    if REGISTERS:
        hidden = ()
        for t in tl.static_range(T):
            h = _charge(tl.load(x_ptr + t * n + at, inside).to(tl.float32), v, tau, v_reset, LEAK)
            hidden = hidden + (h,)
            v = tl.where(h >= v_threshold, v_reset, h)
        for i in tl.static_range(T):  # an index into a tuple has to stay a constant: no name for T - 1 - i
            v = first
            x = first
            if LEAK == 2:  # only decay's gradient asks for them
                x = tl.load(x_ptr + (T - 1 - i) * n + at, inside).to(tl.float32)
                if i < T - 1:
                    v = tl.where(hidden[T - 2 - i] >= v_threshold, v_reset, hidden[T - 2 - i])
            gv, gdecay = _step_back(
                hidden[T - 1 - i], v, x, T - 1 - i, n, at, inside, gv, gdecay, gs_ptr, gx_ptr,
                tau, v_threshold, v_reset, alpha, LEAK, SURROGATE,
            )  # fmt: skip
    else:
        for t in range(T):
            h = _charge(tl.load(x_ptr + t * n + at, inside).to(tl.float32), v, tau, v_reset, LEAK)
            tl.store(h_ptr + t * n + at, h, inside)
            v = tl.where(h >= v_threshold, v_reset, h)
        tl.debug_barrier()
        for i in range(T):
            t = T - 1 - i
            h = tl.load(h_ptr + t * n + at, inside)
            v = first
            x = first
            if LEAK == 2:
                x = tl.load(x_ptr + t * n + at, inside).to(tl.float32)
                before = tl.load(h_ptr + tl.maximum(t - 1, 0) * n + at, inside)
                v = tl.where(t > 0, tl.where(before >= v_threshold, v_reset, before), first)
            gv, gdecay = _step_back(
                h, v, x, t, n, at, inside, gv, gdecay, gs_ptr, gx_ptr, tau, v_threshold, v_reset, alpha, LEAK, SURROGATE
            )
    if not REST:
        tl.store(gfirst_ptr + at, gv, inside)
    if LEAK == 2:
        tl.store(gdecay_ptr + tl.program_id(0), tl.sum(gdecay))


def _leak(tau: float | None, decay: Tensor | None) -> tuple[int, float]:
    return (DECAY, 1.0) if decay is not None else (NO_LEAK, 1.0) if tau is None else (TAU, tau)


@operator('lif_forward_triton')
def lif_forward(
    x: Tensor, v: Tensor | None, decay: Tensor | None, tau: float | None, v_threshold: float, v_reset: float
) -> tuple[Tensor, Tensor]:
    """Spikes [T, …] of x's dtype and the last membrane (float32), from x [T, …].

    Args:
        v: Membrane to start from, None: at rest.
        decay: 1 / tau as a tensor (PLIF), which wins over tau; with neither, nothing leaks.
    """
    x = dense(x)
    v = None if v is None else in_layout_of(x[0], v.float())
    spikes, last = torch.empty_like(x), torch.empty_like(x[0], dtype=torch.float32)
    leak, tau = _leak(tau, decay)
    n = last.numel()
    # a pointer that the kernel does not read is that of x
    start(
        _lif_forward, x, n, x, x if v is None else v, x if decay is None else decay.float(), spikes, last,
        n, tau, v_threshold, v_reset, T=x.shape[0], LEAK=leak, REST=v is None, LAST=True,
    )  # fmt: skip
    return spikes, last


@operator('lif_spikes_triton')
def lif_spikes(x: Tensor, tau: float | None, v_threshold: float, v_reset: float) -> Tensor:
    """As :func:`lif_forward` from rest, without the last membrane."""
    x = dense(x)
    spikes, n = torch.empty_like(x), x[0].numel()
    leak, tau = _leak(tau, None)
    start(
        _lif_forward,
        x,
        n,
        x,
        x,
        x,
        spikes,
        spikes,
        n,
        tau,
        v_threshold,
        v_reset,
        T=x.shape[0],
        LEAK=leak,
        REST=True,
        LAST=False,
    )
    return spikes


@operator('lif_backward_triton')
def lif_backward(
    x: Tensor,
    v: Tensor | None,
    decay: Tensor | None,
    grad_spikes: Tensor,
    grad_v: Tensor | None,
    tau: float | None,
    v_threshold: float,
    v_reset: float,
    surrogate: str,
    alpha: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x (its dtype), v (float32, empty without one) and decay (parts of a sum, none without one)."""
    x = dense(x)
    grad_spikes, grad_x = in_layout_of(x, grad_spikes), torch.empty_like(x)
    v, grad_v = (None if m is None else in_layout_of(x[0], m.float()) for m in (v, grad_v))
    grad_first = x.new_empty(0, dtype=torch.float32) if v is None else torch.empty_like(x[0], dtype=torch.float32)
    n, steps = x[0].numel(), x.shape[0]
    registers = steps <= REGISTER_STEPS
    # in float32 the membranes fit where their gradients will be, but those of decay need the membrane before
    hidden = grad_x
    if not registers and (x.dtype != torch.float32 or decay is not None):
        hidden = torch.empty_like(x, dtype=torch.float32)
    partial = x.new_empty(0 if decay is None else -(-n // BLOCK), dtype=torch.float32)  # each program fills its place
    leak, tau = _leak(tau, decay)
    start(
        _lif_backward, x, n, x, x if v is None else v, x if decay is None else decay.float(), grad_spikes,
        x if grad_v is None else grad_v, hidden, grad_x, grad_first, partial, n, tau, v_threshold, v_reset, alpha,
        T=steps, LEAK=leak, SURROGATE=SURROGATE_CODES[surrogate], REST=v is None, LAST=grad_v is not None, REGISTERS=registers,
    )  # fmt: skip
    return grad_x, grad_first, partial
