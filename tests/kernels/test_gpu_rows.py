"""The kernels of rows without a GPU: rows run as on CUDA by Triton's interpreter, and compiled for several generations."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('triton', reason='PyTorch for CPUs alone brings no Triton')

from mmspike.kernels.gpu import attention_kernels, integer, norm_neuron_kernels, shortcut_kernels  # noqa: E402

from .test_gpu import assert_lean, compiled, compiles  # noqa: E402

ROOT = Path(__file__).parents[2]
TILE = dict(WIDE=False, BM=16, BN=64)
LIF, SFA, IDENTITY = (dict(KIND=0, LEAK=1), dict(KIND=1, LEAK=0), dict(KIND=2, LEAK=0))


def test_rows_equal_their_modules_under_the_interpreter():
    env = os.environ | dict(TRITON_INTERPRET='1', PYTHONPATH=str(ROOT))
    script = Path(__file__).with_name('interpreted_rows.py')
    done = subprocess.run([sys.executable, str(script)], env=env, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and done.stdout.endswith('ok\n'), done.stderr[-3000:]


def cases():
    k = norm_neuron_kernels
    for (dtype, arch), steps in itertools.product((('fp32', 75), ('fp16', 90), ('bf16', 80), ('fp16', 100)), (1, 4, 8)):
        if steps == 4 or arch == 90:
            for neuron in (LIF, SFA, IDENTITY) if steps == 4 and arch in (75, 90) else (LIF,):
                own = neuron | TILE | dict(INNERMOST=True, T=steps if neuron is LIF else 1)
                double = dict(TRAINING=True, DOUBLE=neuron is IDENTITY)
                yield k._norm_neuron_forward, own | double, dtype, arch, True
                yield k._affine_neuron, own, dtype, arch, True
                yield k._norm_neuron_sums, own | dict(SURROGATE=0), dtype, arch, False
                yield k._norm_neuron_backward, own | double | dict(SURROGATE=0), dtype, arch, False
    other = TILE | dict(INNERMOST=False, T=4, BM=1024, BN=1) | LIF
    yield k._norm_neuron_forward, other | dict(TRAINING=False, DOUBLE=True), 'fp32', 80, True
    yield k._norm_neuron_backward, other | dict(TRAINING=False, DOUBLE=True, SURROGATE=1), 'fp32', 80, False
    k = shortcut_kernels
    for neuron, steps, dtype, arch in ((SFA, 1, 'fp32', 80), (SFA, 1, 'fp16', 90), (LIF, 4, 'fp32', 75), (LIF, 8, 'bf16', 100)):
        own = neuron | TILE | dict(INNERMOST=dtype != 'fp32', T=steps)
        own |= dict(BM=1024, BN=1) if dtype == 'fp32' else {}
        more = dict(TRAINING=True, DOUBLE=steps == 4, SHORTCUT=True, CODE=neuron is SFA)
        yield k._norm_sum_forward, own | more, dtype, arch, True
        yield k._norm_sum_gradient, own | dict(SURROGATE=0, SUM=True), dtype, arch, False
    for kernel in (integer._sfa_byte_forward, integer._sfa_byte_backward, integer._pack, integer._unpack):
        yield kernel, dict(BLOCK=1024), 'fp16', 90, True


def attention_cases():
    """Heads of Meta-SpikeFormer 15m's last stage, and of E-SpikeFormer-m's."""
    a = attention_kernels
    for (d, dv, steps, rows), (dtype, arch) in itertools.product(
        ((45, 45, 4, 32), (30, 120, 1, 32)), (('fp16', 90), ('fp32', 80), ('bf16', 100))
    ):
        if arch == 90 or steps == 1:
            known = dict(HEADS=8, D=d, DV=dv, PD=1 << d.bit_length(), PV=1 << dv.bit_length(), BN=rows)
            neuron = (LIF if steps > 1 else SFA) | dict(T=steps)
            yield a._keys_values, known | dict(PV=64), dtype, arch
            yield a._attention_forward, known | neuron | dict(CODE=True, PV=64), dtype, arch
            yield a._attention_sums_back, known | neuron | dict(SURROGATE=0), dtype, arch
            yield a._attention_factors_back, known, dtype, arch


@compiles
def test_attention_kernels_compile_for_every_generation():
    for kernel, constants, dtype, arch in attention_cases():
        what = kernel.fn.__name__, constants, dtype, arch
        binary = compiled(kernel, constants, dtype, arch)
        assert_lean(binary, False, what)  # products of matrices are contracted
        assert binary.metadata.shared <= 99 * 1024, what  # of the smallest card that has the matrix units, sm_86


@compiles
def test_row_kernels_compile_for_every_generation():
    for kernel, constants, dtype, arch, forward in cases():
        assert_lean(compiled(kernel, constants, dtype, arch), forward, (kernel.fn.__name__, constants, dtype, arch))
