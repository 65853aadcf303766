"""The Triton kernels, run by Triton's interpreter on the CPU: no GPU is needed, and none is tested."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytest.importorskip('triton', reason='PyTorch for CPUs alone brings no Triton')

SCRIPT = """
import itertools
import torch
from mmspike.models.neurons import lif, sfa
from mmspike.kernels import cpu, gpu

cpu.usable = lambda x: False  # the plain PyTorch functions are what the kernels are held against
torch.manual_seed(0)
close = dict(rtol=1e-5, atol=1e-6)
for tau, surrogate, layout in itertools.product((2.0, 3.0, None), ('sigmoid', 'atan', 'rectangle'), ('plain', 'channels')):
    x = torch.randn(4, 2, 5, 7, 9) * 2
    if layout == 'channels':
        x = x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    v = torch.randn(2, 5, 7, 9)
    alpha = 2.0
    leaves = x.clone().requires_grad_(), v.clone().requires_grad_()
    if tau is None:
        from mmspike.models.neurons.lif import integrate_and_fire
        s, last = integrate_and_fire(*leaves, surrogate=surrogate, alpha=alpha)
    else:
        s, last = lif(*leaves, tau=tau, surrogate=surrogate, alpha=alpha)
    assert 0.05 < s.mean() < 0.95
    ours = gpu.lif_forward(x, v, tau, 1.0, 0.0)
    assert torch.equal(ours[0], s) and torch.equal(ours[1], last)
    gs, gv = torch.randn_like(s), torch.randn_like(last)
    wanted = torch.autograd.grad((s, last), leaves, (gs, gv))
    got = gpu.lif_backward(x, v, gs, gv, tau, 1.0, 0.0, surrogate, alpha)
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, **close)

for dtype in (torch.float16, torch.bfloat16):
    x = (torch.randn(3, 2, 33) * 2).to(dtype)
    v = torch.zeros(2, 33)
    s, last = lif(x, v)
    ours = gpu.lif_forward(x, v, 2.0, 1.0, 0.0)
    assert ours[0].dtype == dtype and torch.equal(ours[0], s) and torch.equal(ours[1], last)

halves = torch.arange(-3, 12, dtype=torch.float32) / 2  # ties and both ends of the window among them
cases = [*itertools.product((1, 2, 4, 8), (1.0, 3.0, 4.0), (torch.float32,))]
# the interpreter cuts bits off where a GPU rounds to bfloat16: powers of two need neither
cases += itertools.product((1, 2, 4, 8), (1.0, 4.0), (torch.bfloat16,))
for levels, norm, dtype in cases:
    x = torch.cat([halves, torch.randn(2000) * 4]).to(dtype).view(1, 1, -1).requires_grad_()
    s = sfa(x, levels, norm)
    out, window = gpu.sfa_forward(x.detach(), levels, norm)
    assert torch.equal(out, s.detach())
    (grad,) = torch.autograd.grad(s.sum(), x)
    assert torch.equal(window, grad != 0)
print('ok')
"""


def test_kernels_equal_the_plain_neurons_under_the_interpreter():
    root = Path(__file__).parents[2]
    env = os.environ | dict(TRITON_INTERPRET='1', PYTHONPATH=str(root))
    code = textwrap.dedent(SCRIPT)
    done = subprocess.run([sys.executable, '-c', code], env=env, capture_output=True, text=True, cwd=root)
    assert done.returncode == 0 and done.stdout.endswith('ok\n'), done.stderr[-3000:]
