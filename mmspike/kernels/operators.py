"""LIF, IF and SFA over all time steps on the CPU, as operators that ``torch.compile`` knows."""

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from . import enabled
from .counts import sfa_gradient
from .layout import dense, in_layout_of, in_one_piece
from .library import SUFFIX, available, call, pointers, reals

SURROGATE_CODES = dict(sigmoid=0, atan=1, rectangle=2)
BLOCK = 512  # as in neurons.c


def usable(x: Tensor) -> bool:
    """There is a kernel for the device and dtype of ``x``, and it is turned on."""
    return enabled() and x.device.type == 'cpu' and x.dtype in SUFFIX and available()


def watched(x: Tensor) -> bool:
    """Somebody compiles or traces what is done with ``x``, counts it, or makes tensors without memory of it."""
    # first: what follows cannot be traced
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return True
    return _get_current_dispatch_mode() is not None or type(x) is not Tensor


def _operator(name: str) -> Callable[[Callable], Any]:
    """An operator of torch for those who watch; for all others the function itself, which is called in a fifth of the time."""

    def make(function: Callable) -> Callable:
        operator = torch.library.custom_op(f'mmspike::{name}', function, mutates_args=(), device_types='cpu')

        @functools.wraps(function)
        def call(x: Tensor, *args):
            return (operator if watched(x) else function)(x, *args)

        call.register_fake = operator.register_fake  # type: ignore[attr-defined]
        return call

    return make


def _leak(tau: float | None, decay: Tensor | None) -> tuple[int, float]:
    return (2, decay.item()) if decay is not None else (0, 1.0) if tau is None else (1, tau)


@_operator('lif_forward')
def lif_forward(
    x: Tensor, v: Tensor | None, decay: Tensor | None, tau: float | None, v_threshold: float, v_reset: float
) -> tuple[Tensor, Tensor]:
    """Spikes [T, …] and last membrane of the input ``x`` [T, …] and the first membrane ``v``, which is at rest if None.

    Nothing leaks without tau.
    """
    x = dense(x)
    spikes, last = torch.empty_like(x), torch.empty_like(x[0])
    v = None if v is None else in_layout_of(x[0], v)
    leak, tau = _leak(tau, decay)
    sizes = ctypes.c_int64(x.shape[0]), ctypes.c_int64(last.numel())
    call(
        'lif_forward',
        x.dtype,
        *pointers(x, v, last, spikes),
        *sizes,
        ctypes.c_int(leak),
        *reals(x.dtype, tau, v_threshold, v_reset),
    )
    return spikes, last


@lif_forward.register_fake
def _(x, v, decay, tau, v_threshold, v_reset):
    return torch.empty_like(x), torch.empty_like(x[0])


@_operator('lif_backward')
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
    """Gradients of x, v (empty without one) and decay (0 without one) from those of the spikes and of the last membrane."""
    x = dense(x)
    grad_spikes, grad_x = in_layout_of(x, grad_spikes), torch.empty_like(x)
    v, grad_v = (None if m is None else in_layout_of(x[0], m) for m in (v, grad_v))
    grad_first = x.new_empty(0) if v is None else torch.empty_like(x[0])
    leak, tau = _leak(tau, decay)
    size = x[0].numel()
    partial = None if decay is None else torch.zeros(-(-size // BLOCK), dtype=torch.float64, device='cpu')
    failed = call(
        'lif_backward',
        x.dtype,
        *pointers(x, v, grad_spikes, grad_v, grad_x, None if v is None else grad_first, partial),
        ctypes.c_int64(x.shape[0]),
        ctypes.c_int64(size),
        ctypes.c_int(leak),
        *reals(x.dtype, tau, v_threshold, v_reset),
        ctypes.c_int(SURROGATE_CODES[surrogate]),
        *reals(x.dtype, alpha),
    )
    if failed:
        raise MemoryError(f'no memory for the membranes of {x.shape[0]} time steps')
    grad_decay = x.new_zeros(()) if partial is None else partial.sum().to(x.dtype)
    return grad_x, grad_first, grad_decay


@lif_backward.register_fake
def _(x, v, decay, grad_spikes, grad_v, tau, v_threshold, v_reset, surrogate, alpha):
    return torch.empty_like(x), x.new_empty(0) if v is None else torch.empty_like(x[0]), x.new_empty(())


def sfa_counts(x: Tensor, levels: int, divisor: float, window: Tensor | None = None) -> Tensor:
    """Counts / divisor; the window of the gradient is written into ``window``."""
    x = in_one_piece(x)
    out = torch.empty_like(x)
    call('sfa_forward', x.dtype, *pointers(x, out, window), ctypes.c_int64(x.numel()), *reals(x.dtype, levels, divisor))
    return out


@_operator('sfa_forward')
def sfa_forward(x: Tensor, levels: int, divisor: float) -> tuple[Tensor, Tensor]:
    """Counts / divisor, and the window of the gradient as bool."""
    window = torch.empty_like(in_one_piece(x), dtype=torch.bool)
    return sfa_counts(x, levels, divisor, window), window


@sfa_forward.register_fake
def _(x, levels, divisor):
    return torch.empty_like(x), torch.empty_like(x, dtype=torch.bool)


@_operator('sfa_backward')
def sfa_backward(grad: Tensor, window: Tensor, divisor: float) -> Tensor:
    return sfa_gradient(grad, window, divisor)


@sfa_backward.register_fake
def _(grad, window, divisor):
    return torch.empty_like(window, dtype=grad.dtype)
