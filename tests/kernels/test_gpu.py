"""The Triton kernels without a GPU: run by Triton's interpreter on the CPU, and compiled for cards of several generations."""

import itertools
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from packaging.version import Version

triton = pytest.importorskip('triton', reason='PyTorch for CPUs alone brings no Triton')

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402
from triton.runtime.errors import OutOfResources  # noqa: E402

from mmspike.config.memory_faults import is_out_of_memory  # noqa: E402
from mmspike.kernels.gpu import integer, launch, lif  # noqa: E402
from mmspike.utils.errors import UserError  # noqa: E402

ROOT = Path(__file__).parents[2]


def test_kernels_equal_the_plain_neurons_under_the_interpreter():
    env = os.environ | dict(TRITON_INTERPRET='1', PYTHONPATH=str(ROOT))
    script = Path(__file__).with_name('interpreted_kernels.py')
    done = subprocess.run([sys.executable, str(script)], env=env, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and done.stdout.endswith('ok\n'), done.stderr[-3000:]


FORWARD = [
    (lif._lif_forward, dict(LEAK=leak, REST=rest, LAST=rest))
    for leak, rest in ((lif.TAU, True), (lif.NO_LEAK, False), (lif.DECAY, True))
]
FORWARD += [(integer._sfa_forward, {}), (integer._integer_lif_forward, dict(REST=True))]
BACKWARD = [
    (lif._lif_backward, dict(LEAK=leak, SURROGATE=surrogate, REST=True, LAST=False))
    for leak, surrogate in ((lif.TAU, 0), (lif.TAU, 1), (lif.NO_LEAK, 2), (lif.DECAY, 0))
]
BACKWARD += [(integer._sfa_backward, {}), (integer._integer_lif_backward, dict(REST=True, LAST=False))]
#: of pointers that do not have the dtype of the tensors
TYPES = dict.fromkeys(
    ('v', 'decay', 'last', 'gv', 'h', 'gfirst', 'gdecay', 'affine', 'part', 'gparam', 'mean', 'inverse'), 'fp32'
)
TYPES |= dict.fromkeys(('w1', 'b1', 'mean1', 'var1', 'w2', 'b2', 'mean2', 'var2', 'border', 'kernel', 'bias'), 'fp32')
TYPES |= dict(kept='u8', kv='fp32', gsum='fp32', window='i1', code='u8', tracked1='i64', tracked2='i64')
INTEGERS = ('N', 'E', 'C', 'B', 'inner', 'rounds', 'parts', 'si', 'sn', 'si_o', 'sn_o', 'sc')

compiles = pytest.mark.skipif(
    Version(triton.__version__) < Version('3.3'),
    reason='Triton before 3.3 compiles ahead of time by other arguments',
)


def compiled(kernel, constants: dict, dtype: str, arch: int):
    """As for tensors of fewer than 2^31 elements, sizes that are multiples of 16, aligned addresses."""
    names = kernel.arg_names
    types = {name: 'i32' if name in INTEGERS else 'fp32' for name in names}
    types |= {name: f'*{TYPES.get(name.removesuffix("_ptr"), dtype)}' for name in names if name.endswith('_ptr')}
    types |= dict.fromkeys(constants, 'constexpr')
    aligned = {(i,): [['tt.divisibility', 16]] for i, name in enumerate(names) if name.endswith('_ptr') or name in INTEGERS}
    source = ASTSource(kernel, signature=types, constexprs=constants, attrs=aligned)
    return triton.compile(source, target=GPUTarget('cuda', arch, 32), options=dict(enable_fp_fusion=False))


def assert_lean(binary, forward: bool, what) -> None:
    """Nothing leaves the registers, memory is read in vectors, nothing is contracted going forward, offsets have 64 bits."""
    text = binary.asm
    assert '.local' not in text['ptx'], what
    assert '.v4' in text['ptx'] or '.v2' in text['ptx'], what
    if forward:
        assert 'fma.' not in text['ptx'], what
    products = [line for line in text['ttir'].splitlines() if 'muli' in line and ('%N' in line or '%step' in line)]
    assert not [line for line in products if line.endswith(': i32')], what


def cases():
    for dtype, arch, (kernel, constants) in itertools.product(('fp32', 'fp16', 'bf16'), (75, 80, 90, 100), FORWARD + BACKWARD):
        if dtype == 'fp32' and arch in (75, 90) or dtype != 'fp32' and arch in (80, 100):
            for steps in (1, 4, 12) if dtype != 'bf16' and 'T' in kernel.arg_names else (4,):
                own = dict(T=steps, REGISTERS=steps <= lif.REGISTER_STEPS)
                own = {k: v for k, v in own.items() if k in kernel.arg_names}
                yield kernel, constants | own | dict(BLOCK=1024), dtype, arch


@compiles
def test_kernels_compile_for_every_generation():
    for kernel, constants, dtype, arch in cases():
        what = kernel.fn.__name__, constants, dtype, arch
        assert_lean(compiled(kernel, constants, dtype, arch), kernel in [k for k, _ in FORWARD], what)


@compiles
def test_nan_passes_on_every_generation():
    """min and max of PTX drop a NaN operand, and a comparison is false: the membrane is compared with itself."""
    kernels = [(lif._lif_forward, dict(LEAK=lif.TAU, REST=True, LAST=True, T=4)), (integer._sfa_forward, {})]
    kernels += [(integer._integer_lif_forward, dict(REST=True, T=4))]
    for (kernel, constants), arch in itertools.product(kernels, (75, 90)):
        assert 'setp.num' in compiled(kernel, constants | dict(BLOCK=1024), 'fp32', arch).asm['ptx']


@pytest.mark.parametrize(
    ('kind', 'setting', 'reason'),
    [
        ('cuda', dict(_tried=Mock(side_effect=RuntimeError('sm_50 is too old'))), 'Old Card.*RuntimeError: sm_50 is too old'),
        ('cuda', dict(triton=None), 'Old Card.*ImportError: Triton is not installed'),
        ('xpu', {}, 'xpu:0.*not for xpu'),
    ],
)
def test_a_device_that_cannot_run_the_kernels_falls_back_and_says_so_once(kind, setting, reason, monkeypatch):
    for name, value in setting.items():
        monkeypatch.setattr(launch, name, value)
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda index: 'Old Card')
    launch._runs_on.cache_clear()
    x = SimpleNamespace(device=SimpleNamespace(type=kind, index=0), dtype=torch.float32)
    with pytest.warns(UserWarning, match=reason) as said:
        assert not launch.usable(x) and not launch.usable(x) and not launch.fuses(x)
    assert len(said) == 1
    launch._runs_on.cache_clear()


class Failing:
    """A kernel that the driver or the compiler refuses."""

    __name__ = '_lif_forward'

    def __init__(self, error):
        self.error = error

    def __getitem__(self, grid):
        return self

    def __call__(self, *args, **constants):
        raise self.error


@pytest.mark.parametrize(
    ('error', 'expected'),
    [
        (OutOfResources(230_000, 101_376, 'shared memory'), 'shared memory.*MMSPIKE_KERNELS=0'),
        (
            RuntimeError('Triton Error [CUDA]: no kernel image'),
            r'_lif_forward .* cpu .* \(2, 3\).*MMSPIKE_KERNELS=0',
        ),
    ],
)
def test_a_kernel_that_fails_later_says_what_to_do(error, expected):
    with pytest.raises(UserError, match=expected):
        launch.start_on(Failing(error), torch.zeros(2, 3), (1,))


def test_memory_that_runs_out_in_a_kernel_is_called_so():
    error = RuntimeError('Triton Error [CUDA]: out of memory')
    with pytest.raises(RuntimeError) as info:
        launch.start_on(Failing(error), torch.zeros(2, 3), (1,))
    assert info.value is error and is_out_of_memory(error)
