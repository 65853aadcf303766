"""Counts against numbers that follow from the definitions by hand, against an independent count, and against spikingjelly's."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmspike.analysis.counter import UNSEEN, OpCounter
from mmspike.analysis.memory import LemaireMemory
from mmspike.models.layers import fold, unfold
from mmspike.models.neurons import IF, SFA, build_neuron

from .counting import count, integer_counts, only


class Spikes(nn.Module):
    """Sends given counts through a neuron of ``levels`` levels: a binary one with IF, an integer one with SFA."""

    def __init__(self, layer: nn.Module, levels: int) -> None:
        super().__init__()
        self.neuron = IF() if levels == 1 else SFA(levels)
        self.layer = layer

    def forward(self, counts: Tensor) -> Tensor:
        s = self.neuron(counts)
        if isinstance(self.layer, nn.Linear):
            return self.layer(s)
        return unfold(self.layer(fold(s)), s.shape[0])


@pytest.mark.parametrize('levels', [1, 4, 8])
@pytest.mark.parametrize('T', [1, 4])
def test_one_spike_in_the_corner_and_one_inside(levels, T) -> None:
    """A 3x3 convolution, padding 1, on 5 x 5: a spike in a corner reaches 4 outputs a channel, one inside 9."""
    x = torch.zeros(T, 1, 2, 5, 5)
    x[0, 0, 0, 0, 0] = levels
    x[T - 1, 0, 1, 2, 2] = 1
    r = only(count(Spikes(nn.Conv2d(2, 7, 3, padding=1), levels), x))
    assert (r.fed, r.steps, r.levels) == ('integers' if levels > 1 else 'binary spikes', T, levels)
    assert r.macs == T * 25 * 7 * 2 * 9
    assert r.step_macs == 25 * 7 * 2 * 9
    assert (r.spikes, r.active, r.elements, r.max_count) == (levels + 1, 2, T * 50, levels)
    assert r.events == levels * 7 * 4 + 7 * 9
    assert r.sops == pytest.approx((levels + 1) / (T * 50) * T * 25 * 7 * 2 * 9)
    assert r.float_macs == 0


@pytest.mark.parametrize('levels', [1, 4, 8])
@pytest.mark.parametrize('T', [1, 4])
def test_strided_depthwise_transposed_and_linear_by_hand(levels, T) -> None:
    """The largest count in the last step in one place, one spike in the first step in another."""
    fed = 'integers' if levels > 1 else 'binary spikes'
    # 3x3, stride 2, padding 1 on 4 x 4: along an axis, positions 0 … 3 are read by 1, 2, 1, 1 outputs
    x = torch.zeros(T, 1, 1, 4, 4)
    x[-1, ..., 1, 1] = levels
    x[0, ..., 0, 3] = 1
    r = only(count(Spikes(nn.Conv2d(1, 5, 3, 2, 1), levels), x))
    assert (r.fed, r.steps, r.macs, r.events) == (fed, T, T * 2 * 2 * 5 * 9, 5 * (levels * 2 * 2 + 1 * 1))

    x = torch.zeros(T, 1, 3, 4, 4)
    x[-1, 0, 2, 0, 0] = levels
    x[0, 0, 1, 1, 1] = 1
    r = only(count(Spikes(nn.Conv2d(3, 3, 3, padding=1, groups=3), levels), x))
    # its own channel only
    assert (r.op, r.fed, r.macs, r.events) == ('depthwise conv', fed, T * 16 * 3 * 9, levels * 4 + 9)

    # kernel 3, stride 2, padding 1: 4 x 4 -> 7 x 7; the corner loses 1 of 3 taps along each axis
    x = torch.zeros(T, 1, 2, 4, 4)
    x[-1, 0, 0, 0, 0] = levels
    x[0, 0, 1, 1, 2] = 1
    r = only(count(Spikes(nn.ConvTranspose2d(2, 5, 3, 2, 1), levels), x))
    assert (r.op, r.fed, r.macs, r.events) == ('transposed conv', fed, T * 32 * 5 * 9, 5 * (levels * 4 + 9))

    x = torch.zeros(T, 3, 6)
    x[:, 0, 0] = levels
    r = only(count(Spikes(nn.Linear(6, 10), levels), x))
    assert (r.op, r.fed, r.steps, r.step_macs, r.macs) == ('linear', fed, T, 180, T * 180)
    assert r.events == T * levels * 10 and r.sops == pytest.approx(r.events)


@pytest.mark.parametrize('levels', [1, 4, 8])
@pytest.mark.parametrize(
    'layer',
    [
        nn.Conv2d(4, 6, 3, padding=1),
        nn.Conv2d(4, 6, (3, 5), stride=(2, 3), padding=(0, 2)),
        nn.Conv2d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2),
        nn.Conv2d(4, 4, 7, padding=3, groups=4),
        nn.Conv2d(4, 6, 2, padding='same'),
        nn.ConvTranspose2d(4, 6, 4, 2, 1),
        nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1, groups=2, dilation=2),
    ],
    ids=str,
)
@pytest.mark.filterwarnings('ignore:Using padding')
def test_events_equal_a_convolution_with_ones(layer, levels) -> None:
    x = integer_counts(levels, 2, 2, 4, 9, 8)
    ones = [(p, p.detach().clone()) for p in layer.parameters()]
    with torch.no_grad():
        layer.weight.fill_(1)
        layer.bias.zero_()
        expected = round(layer.double()(fold(x).double()).sum().item())
        everywhere = round(layer(torch.ones_like(fold(x).double())).sum().item())
        layer.float()
        for p, value in ones:
            p.copy_(value)
    r = only(count(Spikes(layer, levels), x))
    assert r.events == expected
    if layer.padding == 'same':  # PyTorch pads an even kernel's input itself: for floats those zeros are an input
        return
    r = only(count(layer, torch.randn(4, 4, 9, 8)))  # floats: multiply-accumulates without those on padding
    assert (r.fed, r.real_float_macs, r.events) == ('floats', everywhere, 0)


class Attention(nn.Module):
    """q (k^T v) of given counts, heads [T, B, d, N]."""

    def __init__(self, neuron: dict) -> None:
        super().__init__()
        self.q, self.k, self.v = (build_neuron(neuron) for _ in range(3))

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (self.v(v) @ self.k(k).transpose(-2, -1)) @ self.q(q)


@pytest.mark.parametrize('T', [1, 4])
@pytest.mark.parametrize('levels', [1, 4, 8])
def test_both_products_of_an_attention(levels, T) -> None:
    d, N = 3, 5
    neuron = dict(type='IF') if levels == 1 else dict(type='SFA', levels=levels)
    q, k, v = torch.zeros(3, T, 2, d, N).unbind(0)
    # in the first step and sample: token 0 has a spike of k in channel 1 and `levels` of v in channels 0 and 2
    k[0, 0, 1, 0] = 1
    v[0, 0, 0, 0] = v[0, 0, 2, 0] = levels
    v[0, 0, 0, 4] = 1  # meets no spike of k
    q[0, 0, 1, :2] = levels
    counter = count(Attention(neuron), q, k, v)
    kv, product = counter.layers['', 'matmul 1'], counter.layers['', 'matmul 2']
    assert kv.macs == product.macs == T * 2 * d * d * N
    assert kv.step_macs == 2 * d * d * N
    assert kv.events == 2 * levels  # v's spikes at token 0, each meets one of k
    assert kv.sops == pytest.approx(1 / (T * 2 * d * N) * kv.macs)  # k is the sparser
    assert kv.neurons == {'k', 'v'}
    assert product.events == 2 * levels * d  # each spike of q adds d integers
    assert product.sops == pytest.approx(2 * levels / (T * 2 * d * N) * product.macs)
    assert product.neurons == {'q'}


def test_three_time_steps_of_lif_by_hand() -> None:
    """Input 1.5 with tau 2: membranes 0.75, 1.125 (fires), 0.75; so one spike in three steps."""
    model = nn.Sequential(build_neuron(dict(type='LIF', tau=2.0)), nn.Linear(4, 10))
    counter = count(model, torch.full((3, 1, 4), 1.5))
    r = only(counter)
    assert (r.fed, r.spikes, r.events, r.steps) == ('binary spikes', 4, 40, 3)
    assert (counter.neurons['0'].spikes, counter.neurons['0'].elements) == (4, 12)


def test_unknown_operations_are_listed_and_known_ones_not_free() -> None:
    @torch.library.custom_op('mmspike_test::mystery', mutates_args=())
    def mystery(x: Tensor) -> Tensor:
        return x @ x

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(4).eval()

        def forward(self, x: Tensor) -> Tensor:
            return mystery(self.norm(x)) + 1

    counter = count(Model(), torch.rand(4, 4))
    assert counter.unknown == {('mmspike_test::mystery', ''): [1, 16]}
    assert counter.not_billed['normalisation', 'native_batch_norm'] == [1, 16]
    assert counter.not_billed['additions (residual, bias, sums)', 'add'] == [1, 16]


def past_pytorch(x: Tensor, out: Tensor) -> Tensor:
    """A kernel that PyTorch does not dispatch, written into ``out``."""
    out.numpy()[:] = x.numpy() * 3
    return out


class Foreign(nn.Module):
    def __init__(self, make) -> None:
        super().__init__()
        self.make = make
        self.norm = nn.BatchNorm1d(4).eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.make(x.sin()))


@pytest.mark.parametrize(
    'make, found',
    [
        (lambda x: past_pytorch(x, torch.empty_like(x)), True),
        (lambda x: past_pytorch(x, torch.zeros_like(x)), True),
        (lambda x: past_pytorch(x, x.new_empty(4, 4))[:], True),
        (lambda x: past_pytorch(x, torch.empty(4, 4)).mul_(2), True),
        (lambda x: torch.empty_like(x).copy_(x), False),
        (lambda x: torch.zeros_like(x).add_(x), False),
        (lambda x: torch.zeros(4, 4) + x, False),
        (lambda x: torch.mul(x, 2, out=torch.empty_like(x)), False),
        (lambda x: torch.cat([torch.empty(0, 4), torch.empty(4, 4).zero_() + x]), False),
        (lambda x: torch.stack([torch.empty(4).normal_() for _ in range(4)]), False),
    ],
)
@pytest.mark.parametrize('context', [torch.no_grad, torch.inference_mode])
def test_kernels_past_pytorch_are_listed(make, found, context) -> None:
    counter = OpCounter(Foreign(make))
    with context(), counter:
        counter.model(torch.rand(4, 4))
    listed = {what: [1, 16] for what in counter.unknown}
    assert counter.unknown == listed
    assert {what for what, _ in listed} == ({UNSEEN} if found else set())


def test_places_of_arithmetic_without_weights() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.AvgPool2d(2)

        def forward(self, x: Tensor) -> Tensor:
            return self.pool(x).flatten(1).softmax(1)

    counter = count(Model(), torch.rand(1, 2, 4, 4))
    assert counter.places == {('pooling and resampling', 'avg_pool2d'): {'pool'}}
    assert ('other elementwise arithmetic', '_softmax') in counter.not_billed


def test_compiled_operations_of_mmcv_are_seen() -> None:
    from mmcv.ops import ModulatedDeformConv2d, RoIAlign

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.align = RoIAlign((2, 2))
            self.deform = ModulatedDeformConv2d(2, 2, 1)

        def forward(self, x: Tensor, rois: Tensor) -> None:
            self.align(x, rois)
            self.deform(x, x.new_zeros(1, 2, 8, 8), x.new_ones(1, 1, 8, 8))

    model = Model()
    counter = count(model, torch.rand(1, 2, 8, 8), torch.tensor([[0.0, 0, 0, 4, 4]]))
    assert counter.not_billed['region sampling (RoIAlign)', 'mmcv::roi_align_forward'] == [1, 8]
    assert counter.unknown == {('mmcv::modulated_deform_conv_forward', 'deform'): [1, 128]}, 'nor what they are made of'
    assert not any(name.startswith('torchvision::') for _, name in counter.not_billed)
    before = dict(counter.unknown)
    with torch.no_grad():
        model(torch.rand(1, 2, 8, 8), torch.tensor([[0.0, 0, 0, 4, 4]]))
    assert counter.unknown == before, 'outside of the counter nothing is watched'


def test_inference_mode_einsum_and_fused_attention_count_too() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neuron = IF()
            self.fc = nn.Linear(4, 6)

        def forward(self, x: Tensor) -> None:
            s = self.neuron(x)[0]
            self.fc(s)
            torch.einsum('nij,nkj->nik', s, torch.rand(2, 7, 4))
            F.scaled_dot_product_attention(s[None], torch.rand(1, 2, 3, 4), torch.rand(1, 2, 3, 4))

    x = integer_counts(1, 1, 2, 3, 4)
    n = int(x.sum())
    for context in (torch.no_grad, torch.inference_mode):
        counter = OpCounter(Model())
        with context(), counter:
            counter.model(x)
        assert counter.layers['fc', 'linear'].events == n * 6, context
        assert counter.layers['', 'matmul 1'].events == n * 7, context
        assert counter.layers['', 'matmul 2'].events == n * 3, context
        assert counter.layers['', 'matmul 3'].fed == 'floats'
        assert counter.layers['', 'matmul 3'].macs == 2 * 3 * 3 * 4


def test_the_network_computes_what_it_computes() -> None:
    from mmspike.models.backbones import ESpikeFormer, MetaSpikeFormer

    arch = dict(dims=(8, 16, 16, 16), depths=(1, 1, 1, 1, 1), num_heads=2)
    for model in (ESpikeFormer(arch), MetaSpikeFormer(arch, T=2, temporal_output='keep')):
        model.eval()
        x = torch.randn(1, 3, 32, 32)
        with torch.no_grad():
            expected = model(x)
            with OpCounter(model) as counter:
                out = model(x)
        assert all(torch.equal(a, b) for a, b in zip(out, expected, strict=True))
        assert not counter.unknown
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
        assert counter.layers['stem.0.conv.conv', 'conv'].fed == 'floats'
        assert counter.layers['stem.0.conv.conv', 'conv'].steps == 1
        if isinstance(model, ESpikeFormer):
            assert [r.name for r in counter.layers.values() if r.fed == 'floats'] == ['stem.0.conv.conv']
        else:
            assert {r.steps for r in counter.layers.values()} == {1, 2}
            # the linear stack behind a spike-fed convolution reads membranes until deployment merges it
            assert counter.layers['stem.1.sepconv.pwconv2.conv', 'conv'].fed == 'floats'


class TestAgainstSpikingjelly:
    @pytest.fixture
    def sj(self):
        return pytest.importorskip('spikingjelly.activation_based')

    @pytest.mark.parametrize(
        'layer',
        [
            nn.Conv2d(4, 6, 3, 2, 1),
            nn.Conv2d(4, 6, 3, padding=2, dilation=2, groups=2),
            nn.Conv2d(4, 4, 7, padding=3, groups=4),
            nn.ConvTranspose2d(4, 6, 3, 2, 1),
            nn.Linear(8, 5),
        ],
        ids=str,
    )
    def test_synops_of_layers(self, sj, layer) -> None:
        from spikingjelly.activation_based.op_counter import DispatchCounterMode, SynOpCounter

        model = Spikes(layer, 1)
        x = integer_counts(1, 2, 3, 4, 8, 8)
        theirs = SynOpCounter()
        with torch.no_grad(), DispatchCounterMode([theirs]):
            model(x)
        assert only(count(model, x)).events == theirs.get_total() > 0

    def test_synops_of_an_attention_and_of_a_network(self, sj) -> None:
        from spikingjelly.activation_based.op_counter import DispatchCounterMode, SynOpCounter

        from mmspike.models.backbones import MetaSpikeFormer

        attention = Attention(dict(type='IF'))
        inputs = [integer_counts(1, 2, 1, 3, 5) for _ in range(3)]
        network = MetaSpikeFormer(dict(dims=(8, 16, 16, 16), depths=(1, 1, 1, 1, 1), num_heads=2), T=2).eval()
        for m in network.modules():
            if isinstance(m, nn.BatchNorm2d):
                nn.init.uniform_(m.bias, 0.5, 1.5)
        for model, args in ((attention, inputs), (network, [torch.randn(1, 3, 32, 32)])):
            theirs = SynOpCounter()
            with torch.no_grad(), DispatchCounterMode([theirs]):
                model(*args)
            assert sum(r.events for r in count(model, *args).layers.values()) == theirs.get_total() > 0

    @pytest.mark.parametrize('neuron', ['IFNode', 'LIFNode'])
    def test_memory_estimate(self, sj, neuron) -> None:
        from spikingjelly.activation_based import functional, layer
        from spikingjelly.activation_based import neuron as neurons
        from spikingjelly.activation_based.op_counter.analytical_energy import LemaireEnergyConfig, estimate_lemaire_energy

        def fire() -> nn.Module:
            return getattr(neurons, neuron)(step_mode='m')

        net = nn.Sequential(
            layer.Conv2d(3, 8, 3, padding=1, step_mode='m'),
            fire(),
            layer.Conv2d(8, 8, 3, stride=2, padding=1, groups=2, bias=False, step_mode='m'),
            fire(),
            layer.Flatten(step_mode='m'),
            layer.Linear(128, 10, step_mode='m'),
            fire(),
        )
        x = torch.randn(4, 1, 3, 8, 8) * 3
        config = LemaireEnergyConfig(strict=False)
        with pytest.warns(RuntimeWarning, match='Flatten'):
            expected = estimate_lemaire_energy(net, (x,), config=config)
        functional.reset_net(net)
        counter = OpCounter(net, LemaireMemory())
        with torch.no_grad(), counter:
            net(x)
        records = (*counter.layers.values(), *counter.neurons.values())
        parts = {c: sum(r.memory[c] for r in records) for c in records[0].memory | records[-1].memory}
        assert sum(r.events for r in counter.layers.values()) > 0
        assert parts['addressing'] == pytest.approx(expected.breakdown_pj['addressing_pj'])
        assert parts['compute'] == pytest.approx(expected.breakdown_pj['ops_pj'])
        assert parts['spikes and features'] == pytest.approx(expected.breakdown_pj['inout_pj'])
        assert parts['weights'] == pytest.approx(expected.breakdown_pj['params_pj'])
        assert parts['potentials'] == pytest.approx(expected.breakdown_pj['potential_pj'])
