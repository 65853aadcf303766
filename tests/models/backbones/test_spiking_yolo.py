"""SpikeYOLO's backbone and its re-parameterised blocks, against their definition."""

import pytest
import torch
import torch.nn.functional as F

from mmspike.kernels import use
from mmspike.models import SpikingYOLOBackbone
from mmspike.models.backbones.spiking_yolo import SepConv, SpikingSPPF, rep_block
from mmspike.models.layers import NormFirstRepConv, RepConvNorm

BN, ILIF = dict(type='BN', eps=1e-3, momentum=0.03), dict(type='ILIF', levels=4)
ARCH = dict(dims=(8, 8, 16, 16), depths=(1, 1, 1, 1))


def trained(model):
    """The model with norms that do something."""
    for m in model.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(m.weight, 0.5, 1.5)
            torch.nn.init.normal_(m.bias, 0.7, 0.5)
            torch.nn.init.normal_(m.running_mean, 0, 0.2)
            torch.nn.init.uniform_(m.running_var, 0.5, 1.5)
    return model.eval()


@pytest.mark.parametrize(
    ('arch', 'millions'), [('n', 7.154064), ('s', 12.625088), ('spikingyolo-m', 29.63968), ('l', 42.550272)]
)
def test_parameters(arch, millions):
    with torch.device('meta'):
        model = SpikingYOLOBackbone(arch)
    assert sum(p.numel() for p in model.parameters()) == round(millions * 1e6)
    assert model.out_strides == (8, 16, 32)


@pytest.mark.parametrize('strides', [(1, 2, 2, 2), (2, 2, 2, 2), (3, 1, 2, 1), (4, 2, 2, 2), (5, 2, 1, 2)])
def test_strides_divide_every_size_rounded_up(strides):
    model = SpikingYOLOBackbone(ARCH, strides=strides, out_indices=('stem', 0, 1, 2)).eval()
    with torch.no_grad():
        for height, width in ((32, 35), (33, 38), (41, 34)):
            sizes = [tuple(f.shape[-2:]) for f in model(torch.rand(1, 3, height, width))]
            assert sizes == [(-(-height // s), -(-width // s)) for s in model.out_strides]


def padded(norm, x):
    """The output of a norm [N, C, H, W] with one more pixel on each side: what it gives for zero, without gradient."""
    zero = (norm.bias - norm.running_mean * norm.weight / (norm.running_var + norm.eps).sqrt()).detach()
    inner = F.pad(norm(x), (1, 1, 1, 1))
    outside = F.pad(torch.zeros_like(x), (1, 1, 1, 1), value=1.0)
    return inner + outside * zero.view(-1, 1, 1)


def by_definition(part, x):
    """The end of SepConv and RepConv on [N, C, H, W] as they are written down, with padded maps."""
    if isinstance(part, NormFirstRepConv):
        return F.conv2d(part.conv1(padded(part.norm1, x)), part.dwconv.weight, groups=part.dwconv.groups)
    rep = part.rep
    y = F.conv2d(padded(rep.norm1, rep.conv1(x)), rep.dwconv.weight, groups=rep.dwconv.groups)
    return part.norm(rep.norm2(rep.conv2(y)))


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('kernels', [True, False])
@pytest.mark.parametrize('make', [lambda: NormFirstRepConv(16, 6, BN), lambda: RepConvNorm(6, BN, 16)])
def test_merging_rows_are_padded_with_what_the_norm_gives_for_zero(make, kernels, training):
    torch.manual_seed(0)
    part = trained(make()).double().train(training)
    channels = (part.norm1 if isinstance(part, NormFirstRepConv) else part.rep.norm1).num_features
    x = torch.randint(0, 5, (1, 2, channels, 5, 7)).double()
    weights = torch.randn(2, 22 - channels, 5, 7).double()
    # the running statistics of which the border is made are those after this batch
    if training:
        torch.manual_seed(0)
        statistics = trained(make()).double().train()
        statistics.load_state_dict(part.state_dict())
        statistics(x)
    with use(kernels):
        out = part(x)[0]
    (out * weights).sum().backward()
    grads = [p.grad.clone() for p in part.parameters()]
    part.zero_grad()
    if training:
        part.load_state_dict(statistics.state_dict())
        norms = [m for m in part.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = 0.0
    expected = by_definition(part, x[0])
    (expected * weights).sum().backward()
    torch.testing.assert_close(out, expected)
    for grad, p in zip(grads, part.parameters(), strict=True):
        torch.testing.assert_close(grad, p.grad, atol=1e-9, rtol=1e-6)


def test_a_block_is_its_formula():
    block = trained(rep_block(6, 1.5, ILIF, BN)).double()
    x = torch.randn(1, 2, 6, 5, 7).double() * 2
    sep, convs = block.sepconv, [block.rep1, block.rep2]

    def counts(y):
        return y.clamp(0, 4).round()

    y = sep.pwconv1.norm(sep.pwconv1.conv(counts(x[0])))
    y = sep.dwconv.norm(F.conv2d(counts(y), sep.dwconv.conv.weight, padding=3, groups=12))
    y = x[0] + sep.norm(by_definition(sep.rep, counts(y)))
    z = by_definition(convs[1], counts(by_definition(convs[0], counts(y))))
    with torch.no_grad():
        torch.testing.assert_close(block(x)[0], y + z)
    assert convs[0].norm.num_features == 9


def test_pools_see_membranes():
    pool = trained(SpikingSPPF(8, ILIF, BN)).double()
    x = torch.randn(2, 1, 8, 9, 7).double()
    with torch.no_grad():
        levels = [pool.conv1(x)]
        for _ in range(3):
            levels.append(F.max_pool2d(levels[-1].flatten(0, 1), 5, 1, 2).unflatten(0, (2, 1)))
        torch.testing.assert_close(pool(x), pool.conv2(torch.cat(levels, 2)))
        assert levels[0].min() < 0


@pytest.mark.parametrize('training', [True, False])
def test_one_step_of_integer_lif_is_a_quantiser(training):
    """From rest nothing leaks: I-LIF and SFA of unit spikes are one network then, on the kernels too."""
    models = []
    for neuron in (ILIF, dict(type='SFA', levels=4, divisor=1)):
        torch.manual_seed(0)
        models.append(SpikingYOLOBackbone(ARCH, neuron=neuron).train(training))
    x = torch.rand(2, 3, 64, 64)
    outs = [model(x) for model in models]
    assert all(torch.equal(a, b) for a, b in zip(*outs, strict=True))
    nodes = outs[0][-1].grad_fn
    names = set()
    while nodes is not None:
        names.add(type(nodes).__name__)
        nodes = nodes.next_functions[0][0] if nodes.next_functions else None
    assert '_NormNeuronBackward' in names


def test_time_steps_are_seen():
    """With several steps I-LIF has a memory, and frames in another order give something else."""
    torch.manual_seed(0)
    model = trained(SpikingYOLOBackbone(ARCH, T=3, neuron=ILIF)).double()
    frames = torch.rand(3, 1, 3, 64, 64).double()
    with torch.no_grad():
        assert not torch.allclose(model(frames)[-1], model(frames.flip(0))[-1])


def test_depthwise_convolution_reads_spikes():
    assert [type(m).__name__ for m in SepConv(4, ILIF, BN)][4:6] == ['ILIF', 'NormFirstRepConv']
    with pytest.raises(ValueError, match="NormFirstRepConv needs a batch norm .* got {'type': 'GN', 'num_groups': 2}"):
        SpikingYOLOBackbone(ARCH, norm_cfg=dict(type='GN', num_groups=2))
