"""The Triton kernels without a GPU: run by Triton's interpreter on the CPU, and compiled for cards of several generations."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.version import Version

triton = pytest.importorskip('triton', reason='PyTorch for CPUs alone brings no Triton')

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from mmspike.kernels.gpu import integer, lif  # noqa: E402

ROOT = Path(__file__).parents[2]


def test_kernels_equal_the_plain_neurons_under_the_interpreter():
    env = os.environ | dict(TRITON_INTERPRET='1', PYTHONPATH=str(ROOT))
    script = Path(__file__).with_name('interpreted_kernels.py')
    done = subprocess.run([sys.executable, str(script)], env=env, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and done.stdout.endswith('ok\n'), done.stderr[-3000:]


FORWARD = [
    (lif._lif_forward, dict(LEAK=leak, REST=rest)) for leak, rest in ((lif.TAU, True), (lif.NO_LEAK, False), (lif.DECAY, True))
]
FORWARD += [(integer._sfa_forward, {}), (integer._integer_lif_forward, dict(REST=True))]
BACKWARD = [
    (lif._lif_backward, dict(LEAK=leak, SURROGATE=surrogate, REST=True, LAST=False))
    for leak, surrogate in ((lif.TAU, 0), (lif.TAU, 1), (lif.NO_LEAK, 2), (lif.DECAY, 0))
]
BACKWARD += [(integer._sfa_backward, {}), (integer._integer_lif_backward, dict(REST=True, LAST=False))]
FLOAT32 = ('v_ptr', 'decay_ptr', 'last_ptr', 'gv_ptr', 'h_ptr', 'gfirst_ptr', 'gdecay_ptr')  # whatever the dtype of x


compiles = pytest.mark.skipif(
    Version(triton.__version__) < Version('3.3'),
    reason='Triton before 3.3 compiles ahead of time by other arguments',
)


def compiled(kernel, constants: dict, dtype: str, steps: int, arch: int):
    """As for tensors of fewer than 2^31 elements, a multiple of 16, at aligned addresses."""
    names = kernel.arg_names
    constants = constants | dict(BLOCK=1024)
    if 'T' in names:
        constants['T'] = steps
    if 'REGISTERS' in names:
        constants['REGISTERS'] = steps <= lif.REGISTER_STEPS
    types = {name: 'constexpr' for name in constants}
    for name in names:
        if name.endswith('_ptr'):
            types[name] = '*fp32' if name in FLOAT32 else '*i1' if name == 'window_ptr' else f'*{dtype}'
    types = {name: types.get(name, 'i32' if name == 'N' else 'fp32') for name in names}
    aligned = {(i,): [['tt.divisibility', 16]] for i, name in enumerate(names) if name.endswith('_ptr') or name == 'N'}
    source = ASTSource(kernel, signature=types, constexprs=constants, attrs=aligned)
    return triton.compile(source, target=GPUTarget('cuda', arch, 32), options=dict(enable_fp_fusion=False))


def cases():
    for dtype, arch, (kernel, constants) in itertools.product(('fp32', 'fp16', 'bf16'), (75, 80, 90, 100), FORWARD + BACKWARD):
        if dtype == 'fp32' and arch in (75, 90) or dtype != 'fp32' and arch in (80, 100):
            for steps in (1, 4, 12) if dtype != 'bf16' and 'T' in kernel.arg_names else (4,):
                yield kernel, constants, dtype, steps, arch


@compiles
def test_kernels_compile_for_every_generation():
    """No membrane leaves the registers, memory is read in vectors, nothing is contracted, offsets have 64 bits."""
    for kernel, constants, dtype, steps, arch in cases():
        text = compiled(kernel, constants, dtype, steps, arch).asm
        what = kernel.fn.__name__, constants, dtype, steps, arch
        assert '.local' not in text['ptx'], what
        assert '.v4' in text['ptx'], what
        if (kernel, constants) in FORWARD:
            assert 'fma.' not in text['ptx'], what
        assert not [line for line in text['ttir'].splitlines() if 'muli' in line and '%N' in line and line.endswith(': i32')], (
            what
        )


@compiles
def test_nan_passes_on_every_generation():
    """min and max of PTX drop a NaN operand, and a comparison is false: the membrane is compared with itself."""
    kernels = [(lif._lif_forward, dict(LEAK=lif.TAU, REST=True)), (integer._sfa_forward, {})]
    kernels += [(integer._integer_lif_forward, dict(REST=True))]
    for (kernel, constants), arch in itertools.product(kernels, (75, 90)):
        assert 'setp.num' in compiled(kernel, constants, 'fp32', 4, arch).asm['ptx']
