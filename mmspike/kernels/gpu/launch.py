"""The tensors that there are kernels for, and the start of a kernel on them."""

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import torch
from packaging.version import Version
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import _get_current_dispatch_mode

from mmspike.utils.errors import UserError, describe

from .. import enabled

try:
    import triton
    import triton.language as tl
    from triton.errors import TritonError
except ImportError:  # PyTorch for other devices brings none, and needs none
    triton, tl, TritonError = None, SimpleNamespace(constexpr=None), RuntimeError

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
    if x.device.type == 'cpu' or not enabled() or x.dtype not in DTYPES:
        return False
    # nothing can be tried while a graph is traced; a network that is compiled has usually run before
    if x.device.type == 'cuda' and triton is not None and (torch.compiler.is_compiling() or isinstance(x, FakeTensor)):
        return True
    return _runs_on(x.device.type, x.device.index)


def fuses(x: Tensor) -> bool:
    """Rows of modules may run on the kernels: nobody watches each operation, but who counts launches."""
    if not usable(x) or type(x) not in (Tensor, FakeTensor):
        return False
    mode = _get_current_dispatch_mode()
    return mode is None or isinstance(mode, FakeTensorMode) or getattr(mode, 'counts_launches', False)


@functools.cache
def _runs_on(device_type: str, index: int | None) -> bool:
    """The kernels run on a device; if not, the reason is a warning, once a process and device."""
    if device_type == 'meta':
        return False
    try:
        if device_type != 'cuda':
            raise NotImplementedError(f'there are kernels for CUDA and for the CPU, not for {device_type}')
        if triton is None:
            raise ImportError('Triton is not installed; it comes with PyTorch for CUDA, or by pip install triton')
        return _tried(index)
    except Exception as error:  # Triton's and the driver's errors have no common class
        name = f'{device_type}:{index}' if device_type != 'cuda' else f'{torch.cuda.get_device_name(index)} (cuda:{index})'
        warnings.warn(
            f"mmspike's kernels do not run on {name}, so its networks run as plain PyTorch there, slower and with more memory: "
            f'{describe(error)}',
            stacklevel=2,
        )
        return False


def _tried(index: int | None) -> bool:
    """The kernels run on small tensors; raises what they raise where they do not."""
    from .trial import run_kernels  # it imports this module

    with torch.cuda.device(index):
        results = run_kernels(f'cuda:{index}')
        if not all(bool(x.isfinite().all()) for x in results):
            raise ArithmeticError('the results of a small run are not finite')
    return True


def matrix_units(x: Tensor) -> bool:
    """The GPU multiplies matrices of float32 on matrix units, in three parts (since Ampere)."""
    return not x.is_cuda or isinstance(x, FakeTensor) or torch.cuda.get_device_capability(x.device) >= (8, 0)


#: the operators' functions by name, for who counts what they launch
FUNCTIONS: dict[str, Callable] = {}


def operator(name: str, mutates_args: tuple[str, ...] = ()) -> Callable:
    """Registers a function as ``torch.ops.mmspike.NAME``; its kernels are visible to ``torch.compile``."""

    def register(function: Callable) -> Any:
        FUNCTIONS[name] = function
        return torch.library.triton_op(f'mmspike::{name}', mutates_args=mutates_args)(function)

    return register


def start(kernel: Any, x: Tensor, n: int, *args: Any, **constants: Any) -> None:
    """Run ``kernel`` on the device of ``x`` over blocks of ``n`` elements."""
    start_on(kernel, x, (-(-n // BLOCK),), *args, **constants, BLOCK=BLOCK)


def start_on(kernel: Any, x: Tensor, grid: tuple[int, ...], *args: Any, **constants: Any) -> None:
    """Run ``kernel`` on the device of ``x`` with so many programs."""
    if isinstance(x, FakeTensor) and hasattr(mode := _get_current_dispatch_mode(), 'started'):
        mode.started(kernel.fn.__name__.removeprefix('_'))
        return
    if isinstance(kernel, triton.JITFunction):
        kernel = torch.library.wrap_triton(kernel)
    elif isinstance(x, FakeTensor):  # Triton's interpreter, which cannot be traced
        return
    # of several GPUs; nothing for the interpreter on the CPU, and for tensors without data
    with contextlib.nullcontext() if isinstance(x, FakeTensor) else torch.cuda.device_of(x), _failures_named(kernel, x):
        kernel[grid](*args, **constants, enable_fp_fusion=False)


@contextlib.contextmanager
def _failures_named(kernel: Any, x: Tensor) -> Iterator[None]:
    """A kernel that fails although others have run on the device says what to do."""
    try:
        yield
    except (TritonError, RuntimeError) as error:
        if 'out of memory' in str(error):
            raise
        name = getattr(getattr(kernel, 'fn', kernel), '__name__', kernel)
        raise UserError(
            f'the kernel {name} does not run on {x.device} for a tensor of shape {tuple(x.shape)} and {x.dtype}, '
            f'{type(error).__name__}: {error}. MMSPIKE_KERNELS=0 in the environment runs plain PyTorch'
        ) from error
