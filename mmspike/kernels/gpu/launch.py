"""Which tensors there are kernels for, and how a kernel is started on them."""

import contextlib
import functools
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from packaging.version import Version
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from .. import enabled

try:
    import triton
    import triton.language as tl
except ImportError:  # PyTorch for other devices brings none, and needs none
    triton, tl = None, SimpleNamespace(constexpr=None)

BLOCK = 1024
#: up to so many steps a backward kernel holds all membranes in registers: 64 a thread at T = 4 in half precision. They stand in
#: a tuple, which Triton's language has since 3.3
REGISTER_STEPS = 8 if triton is not None and Version(triton.__version__) >= Version('3.3') else 0
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def jit(function: Callable) -> Any:
    """``triton.jit``; without Triton the function itself, which nobody calls then."""
    return function if triton is None else triton.jit(function)


def usable(x: Tensor) -> bool:
    """There is a kernel for the device and dtype of ``x``, and it runs there."""
    if not enabled() or x.device.type != 'cuda' or triton is None or x.dtype not in DTYPES:
        return False
    # nothing can be tried while a graph is traced; a network that is compiled has usually run before
    return torch.compiler.is_compiling() or isinstance(x, FakeTensor) or _runs_on(x.device.index)


@functools.cache
def _runs_on(device: int) -> bool:
    """One small kernel, compiled and run on the device; if that fails, the reason is a warning, once a process and device."""
    try:
        x = torch.zeros(1, device=f'cuda:{device}')
        with torch.cuda.device(device):
            _probe[(1,)](x)
            return bool(x.item() == 1)
    except Exception as error:  # Triton's and the driver's errors have no common class
        warnings.warn(
            f"mmspike's Triton kernels do not run on {torch.cuda.get_device_name(device)}, so its neurons run as plain PyTorch "
            f'there, slower and with more memory: {type(error).__name__}: {error}',
            stacklevel=2,
        )
        return False


@jit
def _probe(x_ptr):
    tl.store(x_ptr, 1.0)


def operator(name: str) -> Callable:
    """Registers a function as ``torch.ops.mmspike.NAME``; its kernels are visible to ``torch.compile``."""
    return torch.library.triton_op(f'mmspike::{name}', mutates_args=())


def start(kernel: Any, x: Tensor, n: int, *args: Any, **constants: Any) -> None:
    """Run ``kernel`` on the device of ``x`` over blocks of ``n`` elements."""
    if isinstance(kernel, triton.JITFunction):
        kernel = torch.library.wrap_triton(kernel)
    elif isinstance(x, FakeTensor):  # Triton's interpreter, which cannot be traced
        return
    # of several GPUs; nothing for the interpreter on the CPU, and for tensors without data
    with contextlib.nullcontext() if isinstance(x, FakeTensor) else torch.cuda.device_of(x):
        kernel[(triton.cdiv(n, BLOCK),)](*args, **constants, BLOCK=BLOCK, enable_fp_fusion=False)


def dense(x: Tensor) -> Tensor:
    """``x`` [T, …] if its elements lie in one piece, time outermost; else a copy that keeps the order within a step."""
    step = x.numel() // x.shape[0]
    if not torch.ops.aten.is_non_overlapping_and_dense(x[0]):
        return x.contiguous()
    return x if x.stride(0) == step else x.new_empty_strided(x.shape, (step, *x.stride()[1:])).copy_(x)


def in_layout_of(like: Tensor, x: Tensor) -> Tensor:
    """``x`` with the strides of ``like``."""
    return x if x.stride() == like.stride() else torch.empty_like(like, dtype=x.dtype).copy_(x)
