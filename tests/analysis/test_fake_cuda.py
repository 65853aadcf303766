"""Training steps on CUDA tensors without data: counts that are known, and the right derivatives."""

import pytest
import torch
from torch import nn

from mmspike.analysis.fake_cuda import backward_pass, training_step
from mmspike.models import LIF, PLIF, SFA, ESpikeFormer
from mmspike.models.layers import fold

pytestmark = pytest.mark.skipif(not torch.backends.cuda.is_built(), reason='fake CUDA tensors need a CUDA build of PyTorch')


class TwoUses(nn.Module):
    """An output that is used twice, one that nobody uses, a parameter without a gradient, autograd functions in Python."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.unused = nn.Linear(6, 8), nn.Linear(4, 3), nn.Linear(2, 2)
        self.lif, self.plif, self.sfa = LIF(), PLIF(), SFA(levels=4)

    def forward(self, x):
        a, _ = self.first(x).chunk(2, -1)
        return self.second(self.lif(a) + self.plif(a)) * a[..., :3], self.sfa(a * 3)


def test_the_backward_pass_is_pytorchs():
    torch.manual_seed(0)
    model = TwoUses()
    outputs = model(torch.randn(4, 5, 6))
    grads = [torch.randn_like(y) for y in outputs]
    leaves = backward_pass(outputs, grads)
    used = [p for p in model.parameters() if p in leaves]
    wanted = torch.autograd.grad(outputs, used, grads)
    assert len(used) == 5  # two linear layers and PLIF's time constant
    for p, grad in zip(used, wanted, strict=True):
        torch.testing.assert_close(leaves[p], grad)


def test_counts_of_a_network_that_one_can_count_by_hand():
    step = training_step(lambda: nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)), lambda: torch.zeros(32, 8))
    assert step.saved == 4 * 32 * (8 + 16)  # the input, and ReLU's output once for ReLU and the second layer
    assert step.forward == dict(addmm=2, relu=1)
    assert step.backward['mm'] == 3 and not step.elsewhere  # the input has no gradient
    assert step.gradients == {f'{i}.{name}': torch.float32 for i in (0, 2) for name in ('weight', 'bias')}


def test_autocast_reaches_the_neurons():
    def network():
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Unflatten(0, (2, 2)), LIF(), SFA())

    for amp in (torch.float16, torch.bfloat16):
        step = training_step(network, lambda: fold(torch.zeros(2, 2, 3, 9, 9)), amp, neurons=True)
        assert set(step.neuron_dtypes.values()) == {amp}
        assert set(step.gradients.values()) == {torch.float32}
        assert step.forward['lif_forward'] == step.backward['lif_backward'] == 1


def test_a_value_read_from_the_gpu_is_an_error():
    class Reads(nn.Module):
        def forward(self, x):
            return x * float(x.sum())

    with pytest.raises(Exception, match='_local_scalar_dense'):
        training_step(Reads, lambda: torch.zeros(3, requires_grad=True))


def test_a_tensor_on_the_cpu_is_counted_apart():
    class Leaves(nn.Module):
        def forward(self, x):
            return x + torch.ones(3, device='cpu').sum().to('cuda')

    step = training_step(Leaves, lambda: torch.zeros(3, requires_grad=True))
    assert step.elsewhere == dict(ones=1, sum=1)


def test_a_network():
    step = training_step(lambda: ESpikeFormer(arch='t'), lambda: torch.zeros(16, 3, 64, 64))
    assert step.forward['convolution'] == step.backward['convolution_backward'] == 81  # by no operator of the CPU
    assert step.launches > 300 and len(step.gradients) == len(list(ESpikeFormer(arch='t').parameters()))
