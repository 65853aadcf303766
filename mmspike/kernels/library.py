"""The C files beside this one as a library: compiled at first use and kept in the user's cache.

Without a C compiler everything runs as plain PyTorch, which is slower; that is announced once.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

import torch
from torch import Tensor

FOLDER = Path(__file__).parent
#: in float and double
SOURCES = [FOLDER / f'{name}.c' for name in ('neurons', 'norm_neuron', 'depthwise', 'pack', 'sparse', 'winograd')]
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
#: of the files whose sums need not be PyTorch's to the bit
CONTRACTED = {'winograd.c': '-ffp-contract=fast'}
SUFFIX = {torch.float32: 'f', torch.float64: 'd'}


def cache_folder() -> Path:
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'mmspike' / 'kernels'


def _compile() -> Path:
    """Path of the compiled library; raises OSError or CalledProcessError when there is no compiler or it fails."""
    compiler = shlex.split(os.environ.get('CC', '')) or [c for c in map(shutil.which, ('cc', 'gcc')) if c][:1]
    if not compiler:
        raise FileNotFoundError('no C compiler (cc, gcc) on PATH')
    # PyTorch brings an OpenMP runtime of its own: a second one would fight it for the cores
    runtimes = [str(p) for p in (Path(torch.__file__).parent / 'lib').glob('libgomp*')]
    cpu = platform.processor() + platform.machine()
    if os.path.exists('/proc/cpuinfo'):
        lines = Path('/proc/cpuinfo').read_text().splitlines()
        cpu += next((line for line in lines if line.startswith(('flags', 'Features'))), '')
    texts = [p.read_text() for p in [FOLDER / 'lif.h', AMX, *SOURCES]]
    key = hashlib.sha256('\n'.join([*texts, *FLAGS, *CONTRACTED.values(), *compiler, cpu, *runtimes]).encode()).hexdigest()[:16]
    library = cache_folder() / f'neurons-{key}.so'
    if library.exists():
        return library
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        # glibc's vector functions, which other C libraries and older glibc for ARM do not have
        probe = [*compiler, '-shared', '-x', 'c', os.devnull, '-lmvec', '-o', f'{folder}/probe.so']
        mvec = [] if subprocess.run(probe, capture_output=True).returncode else ['-lmvec']
        objects = [f'{folder}/amx.o']
        subprocess.run([*compiler, *FLAGS, '-c', str(AMX), '-o', objects[0]], check=True, capture_output=True)
        for real, suffix, exp in (('float', 'f', 'expf'), ('double', 'd', 'exp')):
            defines = [f'-DREAL={real}', f'-DSUFFIX={suffix}', f'-DEXP={exp}', *(['-DVECTOR_EXP'] if mvec else [])]
            for source in SOURCES:
                objects.append(f'{folder}/{source.stem}_{suffix}.o')
                flags = [*FLAGS, *filter(None, [CONTRACTED.get(source.name)]), *defines]
                command = [*compiler, *flags, '-c', str(source), '-o', objects[-1]]
                subprocess.run(command, check=True, capture_output=True)
        libraries = [*(runtimes or ['-fopenmp']), *mvec, '-lm']
        subprocess.run([*compiler, '-shared', *objects, *libraries, '-o', f'{folder}/out.so'], check=True, capture_output=True)
        os.replace(f'{folder}/out.so', library)
    return library


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled functions; None where they cannot be had."""
    try:
        functions = ctypes.CDLL(str(_compile()))
        for name in ('amx_weight_size', *(f'{part}_size_{end}' for part in ('sparse', 'winograd') for end in SUFFIX.values())):
            getattr(functions, name).restype = ctypes.c_int64
        return functions
    except (OSError, subprocess.CalledProcessError) as error:
        reason = error.stderr.decode(errors='replace') if isinstance(error, subprocess.CalledProcessError) else error
        warnings.warn(f'neurons run as plain PyTorch, several times slower: compiling them failed ({reason})', stacklevel=2)
        return None


@torch.compiler.assume_constant_result
def available() -> bool:
    """True if the fused neurons can be used; compiles them in the first call."""
    return library() is not None


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
