"""Run by test_gpu.py with TRITON_INTERPRET=1: every kernel against the plain PyTorch neurons, on the CPU."""

import itertools

import torch

from mmspike.kernels import gpu, operators
from mmspike.kernels.gpu import integer
from mmspike.kernels.gpu import lif as lif_kernels
from mmspike.models.neurons import lif, sfa
from mmspike.models.neurons.firing import integrate_and_fire
from mmspike.models.neurons.integer import integer_lif

operators.usable = lambda x: False  # the plain PyTorch functions are what the kernels are held against
torch.manual_seed(0)
close = dict(rtol=1e-5, atol=1e-6)


def laid_out(x, layout):
    if layout == 'channels':
        return x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    if layout == 'repeated':  # one image for all time steps, channels innermost
        return x[0].to(memory_format=torch.channels_last).expand(x.shape)
    if layout == 'sliced':
        return torch.stack([x, x], -1)[..., 0]
    return x.transpose(0, 1).contiguous().transpose(0, 1) if layout == 'batch first' else x


LAYOUTS = ('plain', 'channels', 'repeated', 'sliced', 'batch first')
for (tau, surrogate), layout, steps in itertools.product(
    [(2.0, 'sigmoid'), (3.0, 'atan'), (None, 'rectangle'), ('decay', 'atan')], LAYOUTS, (1, 4, 11)
):
    x = laid_out(torch.randn(steps, 2, 5, 7, 9) * 2, layout)
    alpha = 2.0
    for v in (None, torch.randn(2, 5, 7, 9)):
        leaves = [x.clone().requires_grad_()]
        if v is not None:
            leaves.append(v.clone().requires_grad_())
        start = None if v is None else leaves[1]
        decay = None
        if tau is None:
            s, last = integrate_and_fire(leaves[0], start, surrogate=surrogate, alpha=alpha)
        elif tau == 'decay':
            inverse = torch.tensor(2.5, requires_grad=True)
            leaves.append(inverse)
            s, last = lif(leaves[0], start, tau=inverse, surrogate=surrogate, alpha=alpha)
            decay = inverse.detach().reciprocal()
        else:
            s, last = lif(leaves[0], start, tau=tau, surrogate=surrogate, alpha=alpha)
        number = tau if isinstance(tau, float) else None
        ours = torch.ops.mmspike.lif_forward_triton(x, v, decay, number, 1.0, 0.0)
        assert torch.equal(ours[0], s) and torch.equal(ours[1], last)
        gs, gv = torch.randn_like(s), torch.randn_like(last)
        wanted = list(torch.autograd.grad((s, last), leaves, (gs, gv)))
        got = list(gpu.lif_backward(x, v, decay, gs, gv, number, 1.0, 0.0, surrogate, alpha))
        if decay is None:
            assert got.pop().numel() == 0
        else:
            wanted[-1] *= -(2.5**2)  # of 1 / tau, where PyTorch's is of tau
            torch.testing.assert_close(got.pop().sum(), wanted.pop(), rtol=1e-4, atol=1e-4)
        if v is None:
            assert got.pop().numel() == 0
        for a, b in zip(got, wanted, strict=True):
            torch.testing.assert_close(a, b, **close)

for layout, steps, (levels, divisor) in itertools.product(LAYOUTS, (1, 4, 11), ((4, 1.0), (8, 8.0))):
    x = laid_out(torch.randn(steps, 2, 5, 7, 9) * 3, layout)
    for v in (None, torch.randn(2, 5, 7, 9)):
        leaves = [x.clone().requires_grad_()]
        if v is not None:
            leaves.append(v.clone().requires_grad_())
        s, last = integer_lif(leaves[0], None if v is None else leaves[1], levels, 0.25, divisor)
        ours = gpu.integer_lif_forward(x, v, levels, 0.25, divisor)
        assert torch.equal(ours[0], s) and torch.equal(ours[1], last)
        gs, gv = torch.randn_like(s), torch.randn_like(last)
        wanted = torch.autograd.grad((s, last), leaves, (gs, gv))
        got = gpu.integer_lif_backward(x, v, gs, gv, levels, 0.25, divisor)
        for a, b in zip(got, wanted, strict=False):
            torch.testing.assert_close(a, b, **close)

for dtype in (torch.float16, torch.bfloat16):
    x = (torch.randn(3, 2, 33) * 2).to(dtype)
    s, last = lif(x)
    ours = gpu.lif_forward(x, None, None, 2.0, 1.0, 0.0)
    assert ours[0].dtype == dtype and torch.equal(ours[0], s) and torch.equal(ours[1], last)
    assert gpu.lif_forward(x[:, :0], None, None, 2.0, 1.0, 0.0)[0].shape == (3, 0, 33)  # no RoI

halves = torch.arange(-3, 12, dtype=torch.float32) / 2  # ties and both ends of the window among them
levels_and_divisors = [*itertools.product((1, 2, 4, 8), (1.0, 3.0, 4.0), (torch.float32,))]
# the interpreter cuts bits off where a GPU rounds to bfloat16: powers of two need neither
levels_and_divisors += itertools.product((1, 2, 4, 8), (1.0, 4.0), (torch.bfloat16,))
for levels, divisor, dtype in levels_and_divisors:
    x = torch.cat([halves, torch.randn(2000) * 4]).to(dtype).view(1, 1, -1).requires_grad_()
    s = sfa(x, levels, divisor)
    out, window = gpu.sfa_forward(x.detach(), levels, divisor)
    assert torch.equal(out, s.detach())
    (ones,) = torch.autograd.grad(s.sum(), x, retain_graph=True)
    assert torch.equal(window, ones != 0)
    grad = torch.randn_like(s)
    assert torch.equal(gpu.sfa_backward(grad, window, divisor), torch.autograd.grad(s, x, grad)[0])

nan = torch.tensor([[float('nan'), 2.3], [1.0, 2.3]])
assert gpu.sfa_forward(nan, 4, 4.0)[0].isnan().tolist() == [[True, False], [False, False]]
for forward in (
    lambda x: gpu.lif_forward(x, None, None, 2.0, 1.0, 0.0),
    lambda x: gpu.integer_lif_forward(x, None, 4, 0.25, 1.0),
    lambda x: lif(x),
    lambda x: integer_lif(x),
):
    assert forward(nan)[0].isnan().tolist() == [[True, False], [True, False]]  # a membrane stays NaN in later steps

# the operators' traced outputs have the strides of the real ones, whatever the layout
for layout in LAYOUTS:
    x = laid_out(torch.randn(4, 2, 5, 7, 9), layout)
    v = torch.randn(2, 5, 7, 9)
    grad = torch.randn(4, 2, 5, 7, 9)
    window = torch.rand(4, 2, 5, 7, 9) > 0.5
    calls = [
        (gpu.lif_forward, (x, v, None, 2.0, 1.0, 0.0)),
        (gpu.lif_backward, (x, v, None, grad, v, 2.0, 1.0, 0.0, 'atan', 2.0)),
        (gpu.sfa_forward, (x, 4, 4.0)),
        (gpu.sfa_backward, (x, window, 4.0)),
        (integer.sfa_byte_forward, (x, 4, 4.0)),
        (integer.sfa_byte_backward, (x, window.to(torch.uint8), 4.0)),
        (integer.pack, (x.abs().round() / 4, 4.0)),
        (integer.unpack, (window.to(torch.uint8), 4.0, torch.float16)),
        (lif_kernels.lif_spikes, (x, 2.0, 1.0, 0.0)),
        (gpu.integer_lif_forward, (x, v, 4, 0.25, 1.0)),
        (gpu.integer_lif_backward, (x, v, grad, v, 4, 0.25, 1.0)),
    ]
    for op, args in calls:
        torch.library.opcheck(op, args, test_utils=('test_schema', 'test_faketensor'))
print('ok')
