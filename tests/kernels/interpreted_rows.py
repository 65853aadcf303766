"""Run by test_gpu_rows.py with TRITON_INTERPRET=1: rows of modules as on CUDA, on the CPU, against the modules one by one."""

import copy
import itertools

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from mmspike import kernels
from mmspike.kernels import gpu, operators
from mmspike.kernels.gpu import attention, launch, layers
from mmspike.kernels.gpu import norm_neuron as ops
from mmspike.kernels.gpu.shortcut import norm_sum_forward, norm_sum_gradient, norm_sum_neuron
from mmspike.kernels.gpu.trial import run_kernels
from mmspike.kernels.layout import fold, unfold
from mmspike.kernels.recompute import Signal
from mmspike.models import IF, LIF, PLIF, SFA, ESpikeFormer, MetaSpikeFormer
from mmspike.models.layers import Chain, ConvNorm, DropPath, RepConvNorm, Residual, SpikingLinear, attend
from mmspike.models.layers.choice import described
from mmspike.models.layers.repconv import NormFirstRepConv

operators.usable = lambda x: False
gpu.usable = launch.usable = lambda x: kernels.enabled() and x.dtype in launch.DTYPES
torch.manual_seed(0)
BN = dict(type='BN')


class Calls(TorchDispatchMode):
    """Names of the operators that ran."""

    counts_launches = True

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        calls.append(func._schema.name.removeprefix('mmspike::'))
        return func(*args, **(kwargs or {}))


calls = []


def settled(module):
    """Norms as after some training, not as they are initialised."""
    for m in module.modules():
        if isinstance(m, torch.nn.modules.batchnorm._BatchNorm):
            for t, low, high in (
                (m.weight, 0.5, 1.5),
                (m.bias, -0.5, 0.8),
                (m.running_mean, -0.3, 0.3),
                (m.running_var, 0.5, 2),
            ):
                torch.nn.init.uniform_(t, low, high)
    return module


def results(module, x, on, dtype=torch.float32):
    """Output, gradients by name, and buffers of a copy of a module."""
    module = copy.deepcopy(module).to(dtype)
    x = x.to(dtype).requires_grad_()
    with kernels.use(on), Calls():
        out = module(x)
        out = sum(o.mean((-1, -2)) for o in out[-1:]) if isinstance(out, tuple) else out
        weight = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view(out.shape).to(dtype)
        names, parameters = zip(*module.named_parameters(), strict=True)
        grads = torch.autograd.grad((out * weight).sum(), (x, *parameters), allow_unused=True)
    return out.detach(), dict(zip(('input', *names), grads, strict=True)), dict(module.named_buffers())


ATTENTION = ('keys_values_triton', 'attention_forward_triton', 'attention_backward_triton')


def check(module, x, exact=False, tolerance=2e-4, also=()):
    calls.clear()
    ours = results(module, x, True)
    assert {'norm_neuron_forward_triton', 'norm_neuron_backward_triton', *also} <= set(calls), set(calls)
    calls.clear()
    plain, double = results(module, x, False), results(module, x, False, torch.float64)
    assert not [name for name in calls if 'norm_neuron' in name or 'norm_sum' in name]
    if exact:
        assert torch.equal(ours[0], plain[0])
    torch.testing.assert_close(ours[0], plain[0], rtol=1e-4, atol=1e-5)
    for name, buffer in plain[2].items():
        torch.testing.assert_close(ours[2][name], buffer, rtol=1e-4, atol=1e-5)
    largest = max(g.abs().max().item() for g in double[1].values() if g is not None)
    for name, grad in double[1].items():
        assert (grad is None) == (ours[1][name] is None), name
        if grad is not None:
            difference = (ours[1][name].double() - grad).abs().max().item()
            assert difference <= tolerance * max(grad.abs().max().item(), 1e-2 * largest), (name, difference, grad.abs().max())


def inside(x):
    return x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)


NEURONS = (LIF(surrogate='atan'), IF(v_threshold=1.5, surrogate='rectangle'), SFA(levels=4), PLIF())
for i, (neuron, training) in enumerate(itertools.product(NEURONS, (True, False))):
    layout = (inside, lambda x: x)[(i + i // 2) % 2]
    row = Chain(
        neuron1=neuron, conv1=ConvNorm(3, 5, 3, norm_cfg=BN), neuron2=copy.deepcopy(neuron), conv2=ConvNorm(5, 3, norm_cfg=BN)
    )
    check(settled(row).train(training), layout(torch.randn(3, 2, 3, 6, 7) * 2))
    if i % 3 == 0:
        row = Chain(neuron1=neuron, rep=RepConvNorm(4, BN), neuron2=copy.deepcopy(neuron))
        check(settled(row).train(training), layout(torch.randn(2, 2, 4, 5, 7) * 2), exact=True)
row = Chain(neuron1=LIF(), rep=NormFirstRepConv(4, 6, BN), norm=torch.nn.BatchNorm2d(6), neuron2=LIF())
for training in (True, False):
    check(settled(row).train(training), inside(torch.randn(2, 2, 4, 5, 7) * 2), also=('border_triton',))
row = Chain(first=SpikingLinear(6, 70, neuron=dict(type='LIF'), norm_cfg=dict(type='BN1d')), last=SFA(levels=4))
check(settled(row), torch.randn(2, 9, 6) * 3, exact=True)
many = Chain(conv=ConvNorm(4, 4, norm_cfg=BN), neuron=LIF())
check(settled(many), torch.randn(11, 1, 4, 3, 3), exact=True)  # more steps than registers hold
# shortcuts: the neuron on the sum is one that fires, one that counts and one that the kernel does not know; the second branch
# ends in two norms, and a shortcut of its own is added to the first
SUMS = ('norm_sum_forward_triton', 'norm_sum_gradient_triton')
cases = (LIF(surrogate='atan'), True), (SFA(levels=4), True), (PLIF(), False), (SFA(levels=4), False)
for i, (neuron, training) in enumerate(cases):
    n1, n2, n3, n4 = (copy.deepcopy(neuron) for _ in range(4))
    drop = DropPath(0.5 if not training else 0.0)  # both let everything pass
    block = Residual(
        dict(neuron1=n1, conv1=ConvNorm(4, 6, norm_cfg=BN), drop_path=drop),
        dict(neuron2=n2, rep=RepConvNorm(6, BN), drop_path=drop),
        shortcut=dict(neuron3=n3, conv3=ConvNorm(4, 6, norm_cfg=BN)) if i % 4 else None,
        before=None if i % 4 else dict(conv0=ConvNorm(4, 6, norm_cfg=BN)),
        after=dict(neuron4=n4, conv4=ConvNorm(6, 3, norm_cfg=BN)),
    )
    if not i % 4:
        block.conv1 = ConvNorm(6, 6, norm_cfg=BN)
    layout = (inside, lambda x: x)[(i + i // 2) % 2]
    check(
        settled(block).train(training), layout(torch.randn(3, 2, 4, 4, 5) * 2), also=SUMS[: 1 + (not isinstance(neuron, PLIF))]
    )
arch = dict(dims=(4, 4, 6, 8), depths=(1, 0, 0, 1, 0), num_heads=2)
images = torch.randn(2, 3, 32, 32)
check(
    settled(MetaSpikeFormer(arch=arch, T=2, neuron=dict(type='LIF', v_threshold=0.5))),
    images,
    tolerance=2e-3,
    also=ATTENTION + SUMS,
)
check(settled(ESpikeFormer(arch=arch, layer_scale=0.5)), images, tolerance=2e-3, also=ATTENTION + SUMS)


def check_half(function, plain, x, parameters):
    """In half precision the same spikes as in float32 on the same input, and its gradients, rounded once."""
    leaf, wide = x.clone().requires_grad_(), x.float().requires_grad_()
    out, expected = function(leaf), plain(wide)
    assert out.dtype == x.dtype and torch.equal(out.float(), expected) and 0 < expected.count_nonzero() < expected.numel()
    weight = torch.linspace(-1, 1, out.numel()).view(out.shape)
    ours = torch.autograd.grad(out, (leaf, *parameters), weight.to(x.dtype))
    wanted = torch.autograd.grad(expected, (wide, *parameters), weight.to(x.dtype).float())
    assert [g.dtype for g in ours] == [x.dtype, *(p.dtype for p in parameters)]
    for a, b in zip(ours, wanted, strict=True):
        torch.testing.assert_close(a.float(), b, rtol=1e-2, atol=1e-2 * b.abs().max().item())


class Rounded(torch.autograd.Function):
    """The sum as it is kept in half precision."""

    @staticmethod
    def forward(ctx, x):
        return x.half().float()

    @staticmethod
    def backward(ctx, grad):
        return grad


for dtype, neuron in ((torch.float16, LIF()), (torch.bfloat16, LIF()), (torch.bfloat16, SFA(levels=4))):
    kind, norm = described(neuron, 3), settled(torch.nn.BatchNorm2d(5))
    x = inside((torch.randn(3, 2, 5, 4, 6) * 2).to(dtype))

    def ours(x, norm=norm, kind=kind):
        own = layers.of(norm)
        return layers.norm_neuron([own._replace(running=[t.clone() for t in own.running])], kind, Signal(x)).x

    def plain(x, norm=norm, neuron=neuron):
        running = norm.running_mean.clone(), norm.running_var.clone()
        with kernels.use(False):
            return neuron(unfold(F.batch_norm(fold(x), *running, norm.weight, norm.bias, norm.training), x.shape[0]))

    for training in (True, False):
        norm.train(training)
        check_half(ours, plain, x, list(norm.parameters()))
    half = torch.float16  # the interpreter cuts bits off where a GPU rounds to bfloat16
    shortcut = inside(torch.randn(3, 2, 5, 4, 6).to(half))

    def our_sum(x, norm=norm, kind=kind, shortcut=shortcut):
        own = layers.of(norm)
        own = own._replace(running=[t.clone() for t in own.running])
        return norm_sum_neuron([own], kind, Signal(x), shortcut.to(x.dtype))[1].x

    def plain_sum(x, norm=norm, neuron=neuron, shortcut=shortcut):
        running = norm.running_mean.clone(), norm.running_var.clone()
        y = unfold(F.batch_norm(fold(x), *running, norm.weight, norm.bias, norm.training), x.shape[0])
        with kernels.use(False):
            return neuron(Rounded.apply(y + shortcut.float()))

    for training in (True, False):
        norm.train(training)
        check_half(our_sum, plain_sum, x.to(half), list(norm.parameters()))
    q, k, v = (torch.randint(0, 3, (3, 2, c, 4, 6)) / 2 for c in (4, 4, 6))
    joined = inside(torch.cat([q, k, v], 2).to(dtype))

    def plain_attention(x, neuron=neuron):
        with kernels.use(False):
            return neuron(attend(*(Signal(part) for part in x.split((4, 4, 6), 2)), 2).x * 0.125)

    check_half(lambda x, k=kind: attention.attend(k, Signal(x, 2.0), 2, 4, 6, 0.125).x, plain_attention, joined, ())

# the operators of rows: what they say that they change, and traced outputs with the strides of the real ones
for place, steps in ((inside, 1), (lambda x: x, 3)):
    y, grad = (place(torch.randn(steps, 2, 6, 4, 5)) for _ in 'yg')
    weight, bias, mean, inverse = torch.rand(4, 6)
    running, number = [torch.zeros(6), torch.ones(6), torch.tensor(0)], ops.numbers(described(LIF(), steps))
    out, affine = ops.norm_neuron_forward(y, mean, inverse, [weight, bias], running, [1e-5], [0.1], number)
    sums = ops.norm_neuron_sums(y, grad, affine, number)
    parameters = [weight, bias]
    counting = ops.numbers(described(SFA(levels=4), steps))
    codes, norm = torch.randint(0, 255, y.shape, dtype=torch.uint8), (parameters, running, [1e-5], [0.1])
    kv = attention.keys_values(y, 2, 2, 2)
    counted = [
        (ops.norm_neuron_forward, (y, mean, inverse, parameters, running, [1e-5], [0.1], number)),
        (ops.norm_neuron_forward, (y, None, None, parameters, running, [1e-5], [0.1], number)),
        (ops.affine_neuron, (y, affine, number, torch.float16)),
        (ops.border, (torch.randn(6, 1, 3, 3), mean, inverse, parameters, running, 1e-5, 0.1, 40)),
        (ops.norm_neuron_sums, (y, grad, affine, number)),
        (ops.norm_neuron_backward, (y, grad, affine, sums, parameters, running, [1e-5], number, True)),
        (norm_sum_forward, (y, grad, mean, inverse, *norm, counting, True)),
        (norm_sum_forward, (y, None, None, None, *norm, number, False)),
        (norm_sum_gradient, (y, place(codes), grad, y, affine, counting)),
        (norm_sum_gradient, (y, y, None, grad, affine, number)),
        (attention.keys_values, (y, 2, 2, 2)),
        (attention.attention_forward, (y, kv, 2, 2, 2, 0.5, number, True)),
        (attention.attention_backward, (y, kv, place(torch.randn(steps, 2, 2, 4, 5)), 2, 2, 2, 0.5, number)),
    ]
    for op, args in counted:
        torch.library.opcheck(op, args, test_utils=('test_schema', 'test_faketensor'))
assert len(results_of_a_trial := run_kernels('cpu')) == 19 and all(x.isfinite().all() for x in results_of_a_trial)
print('ok')
