"""Fused neurons for the CPU: compiled from the C files beside this one at first use and kept in the user's cache.

Without a C compiler the neurons run as plain PyTorch, which is slower; that is announced once.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

import torch
from torch import Tensor

from . import enabled

FOLDER = Path(__file__).parent
SOURCES = [FOLDER / name for name in ('neurons.c', 'norm_neuron.c', 'depthwise.c', 'pack.c')]  # in float and double
AMX = FOLDER / 'amx.c'
FLAGS = [
    '-O3',
    '-march=native',
    *(['-mprefer-vector-width=512'] if platform.machine() in ('x86_64', 'AMD64') else []),
    '-fopenmp',
    '-ffp-contract=off',
    '-fno-math-errno',
    '-fno-trapping-math',
    '-fPIC',
    '-std=gnu11',
]
SUFFIX = {torch.float32: 'f', torch.float64: 'd'}
SURROGATE_CODES = dict(sigmoid=0, atan=1, rectangle=2)
BLOCK = 512  # as in neurons.c


def cache_folder() -> Path:
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'mmspike' / 'kernels'


def _compile() -> Path:
    """Path of the compiled library; raises OSError or CalledProcessError when there is no compiler or it fails."""
    compiler = os.environ.get('CC') or shutil.which('cc') or shutil.which('gcc')
    if compiler is None:
        raise FileNotFoundError('no C compiler (cc, gcc) on PATH')
    # PyTorch brings an OpenMP runtime of its own: a second one would fight it for the cores
    runtimes = [str(p) for p in (Path(torch.__file__).parent / 'lib').glob('libgomp*')]
    cpu = platform.processor() + platform.machine()
    if os.path.exists('/proc/cpuinfo'):
        lines = Path('/proc/cpuinfo').read_text().splitlines()
        cpu += next((line for line in lines if line.startswith(('flags', 'Features'))), '')
    texts = [p.read_text() for p in [FOLDER / 'lif.h', AMX, *SOURCES]]
    key = hashlib.sha256('\n'.join([*texts, *FLAGS, compiler, cpu, *runtimes]).encode()).hexdigest()[:16]
    library = cache_folder() / f'neurons-{key}.so'
    if library.exists():
        return library
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        objects = [f'{folder}/amx.o']
        subprocess.run([compiler, *FLAGS, '-c', str(AMX), '-o', objects[0]], check=True, capture_output=True)
        for real, suffix, exp in (('float', 'f', 'expf'), ('double', 'd', 'exp')):
            defines = [f'-DREAL={real}', f'-DSUFFIX={suffix}', f'-DEXP={exp}']
            for source in SOURCES:
                objects.append(f'{folder}/{source.stem}_{suffix}.o')
                command = [compiler, *FLAGS, *defines, '-c', str(source), '-o', objects[-1]]
                subprocess.run(command, check=True, capture_output=True)
        libraries = [*(runtimes or ['-fopenmp']), '-lmvec', '-lm']
        subprocess.run([compiler, '-shared', *objects, *libraries, '-o', f'{folder}/out.so'], check=True, capture_output=True)
        os.replace(f'{folder}/out.so', library)
    return library


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled functions; None where they cannot be had."""
    try:
        functions = ctypes.CDLL(str(_compile()))
        functions.amx_weight_size.restype = ctypes.c_int64
        return functions
    except (OSError, subprocess.CalledProcessError) as error:
        reason = error.stderr.decode(errors='replace') if isinstance(error, subprocess.CalledProcessError) else error
        warnings.warn(f'neurons run as plain PyTorch, several times slower: compiling them failed ({reason})', stacklevel=2)
        return None


@torch.compiler.assume_constant_result
def available() -> bool:
    """Whether the fused neurons can be used; compiles them in the first call."""
    return library() is not None


def usable(x: Tensor) -> bool:
    """Whether there is a fused neuron for the device and dtype of ``x``."""
    return enabled() and x.device.type == 'cpu' and x.dtype in SUFFIX and available()


def _dense(x: Tensor) -> Tensor:
    """``x`` itself if its elements lie in one piece, time outermost; else a copy that keeps the order within a step."""
    step = x.numel() // x.shape[0]
    if not torch.ops.aten.is_non_overlapping_and_dense(x[0]):
        return x.contiguous()
    return x if x.stride(0) == step else x.new_empty_strided(x.shape, (step, *x.stride()[1:])).copy_(x)


def _as(x: Tensor, like: Tensor) -> Tensor:
    """``x`` in the memory layout of ``like``."""
    return x if x.shape == like.shape and x.stride() == like.stride() else torch.empty_like(like).copy_(x)


def pointers(*tensors: Tensor | None) -> list[ctypes.c_void_p]:
    return [ctypes.c_void_p(None if t is None else t.data_ptr()) for t in tensors]


def call(name: str, dtype: torch.dtype, *args) -> int:
    return getattr(library(), f'{name}_{SUFFIX[dtype]}')(*args)


def check(failed: int) -> None:
    if failed:
        raise MemoryError('no memory for the fused kernel')


def reals(dtype: torch.dtype, *values: float) -> list:
    real = ctypes.c_float if dtype == torch.float32 else ctypes.c_double
    return [real(v) for v in values]


def _leak(tau: float | None, decay: Tensor | None) -> tuple[int, float]:
    return (2, decay.item()) if decay is not None else (0, 1.0) if tau is None else (1, tau)


@torch.library.custom_op('mmspike::lif_forward', mutates_args=(), device_types='cpu')
def lif_forward(
    x: Tensor, v: Tensor | None, decay: Tensor | None, tau: float | None, v_threshold: float, v_reset: float
) -> tuple[Tensor, Tensor]:
    """Spikes [T, …] and last membrane of the input ``x`` [T, …] and the first membrane ``v``, which is at rest if None.

    Nothing leaks without tau.
    """
    x = _dense(x)
    spikes, last = torch.empty_like(x), torch.empty_like(x[0])
    v = None if v is None else _as(v, x[0])
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


@torch.library.custom_op('mmspike::lif_backward', mutates_args=(), device_types='cpu')
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
    x = _dense(x)
    grad_spikes, grad_x = _as(grad_spikes, x), torch.empty_like(x)
    v, grad_v = (None if m is None else _as(m, x[0]) for m in (v, grad_v))
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


@torch.library.custom_op('mmspike::sfa_forward', mutates_args=(), device_types='cpu')
def sfa_forward(x: Tensor, levels: int, norm: float) -> tuple[Tensor, Tensor]:
    """Counts / norm, and the window of the gradient as bool."""
    if not torch.ops.aten.is_non_overlapping_and_dense(x):
        x = x.contiguous()
    out, window = torch.empty_like(x), torch.empty_like(x, dtype=torch.bool)
    call('sfa_forward', x.dtype, *pointers(x, out, window), ctypes.c_int64(x.numel()), *reals(x.dtype, levels, norm))
    return out, window


@sfa_forward.register_fake
def _(x, levels, norm):
    return torch.empty_like(x), torch.empty_like(x, dtype=torch.bool)


@torch.library.custom_op('mmspike::sfa_backward', mutates_args=(), device_types='cpu')
def sfa_backward(grad: Tensor, window: Tensor, norm: float) -> Tensor:
    grad_x = torch.empty_like(window, dtype=grad.dtype)
    grad = _as(grad, grad_x)
    call('sfa_backward', grad.dtype, *pointers(grad, window, grad_x), ctypes.c_int64(grad.numel()), *reals(grad.dtype, norm))
    return grad_x


@sfa_backward.register_fake
def _(grad, window, norm):
    return torch.empty_like(window, dtype=grad.dtype)
