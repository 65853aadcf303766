"""What feeds a layer: spikes stay spikes through what does not change them, and nothing else is taken for spikes."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmspike import kernels
from mmspike.models.layers import fold
from mmspike.models.neurons import IF, SFA, build_neuron

from .counting import count, integer_counts, only


class Mixed(nn.Module):
    """What a network does between neuron and layer, and what it must not be taken for."""

    def __init__(self) -> None:
        super().__init__()
        self.neuron = SFA(8, divisor=4)
        self.conv = nn.Conv2d(2, 2, 1)
        self.scale = nn.Parameter(torch.full((1, 2, 1, 1), 0.7))

    def forward(self, x: Tensor, how: str) -> Tensor:
        s = fold(self.neuron(x))
        y = dict(
            spikes=lambda: s,
            scaled=lambda: s * 0.3,
            padded=lambda: F.pad(s, (1, 1, 1, 1)),
            pooled=lambda: F.max_pool2d(s, 2),
            joined=lambda: torch.cat([s[:, :1], s[:, 1:]], 1).roll(1, -1).contiguous(memory_format=torch.channels_last),
            summed=lambda: s + s,
            masked=lambda: s * (s > 0.5),
            averaged=lambda: F.avg_pool2d(s, 2),
            upsampled=lambda: F.interpolate(s, scale_factor=2, mode='bilinear'),
            multiplied=lambda: s * self.scale,
            membrane=lambda: fold(x) * 0.37,
        )[how]()
        return self.conv(y)


@pytest.mark.parametrize('how', ['spikes', 'scaled', 'padded', 'joined', 'summed', 'pooled', 'masked'])
def test_spikes_stay_spikes(how) -> None:
    x = integer_counts(8, 2, 1, 2, 4, 4)
    r = count(Mixed(), x, how).layers['conv', 'conv']
    assert (r.fed, r.steps, r.levels) == ('integers', 2, 8)
    assert 'neuron' in r.neurons
    if how in ('spikes', 'scaled', 'padded', 'joined'):
        assert r.events == x.sum().item() * 2
    if how == 'summed':
        assert r.events == x.sum().item() * 4


@pytest.mark.parametrize('how', ['averaged', 'upsampled', 'multiplied', 'membrane'])
def test_floats_are_floats(how) -> None:
    r = count(Mixed(), integer_counts(8, 2, 1, 2, 4, 4), how).layers['conv', 'conv']
    assert (r.fed, r.events, r.sops) == ('floats', 0, 0)
    assert r.float_macs == r.macs > 0


def test_neurons_written_in_plain_pytorch_are_recognised() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 5)

        def forward(self, x: Tensor, kind: str) -> Tensor:
            return self.fc((x >= 1).float() if kind == 'binary' else x.clamp(0, 3).round() / 3)

    x = torch.tensor([[0.2, 1.1, 2.2, 7.0]])
    assert only(count(Plain(), x, 'binary')).events == 3 * 5
    r = only(count(Plain(), x, 'integer'))
    assert (r.fed, r.events) == ('integers', (0 + 1 + 2 + 3) * 5)


@pytest.mark.parametrize('neuron', [dict(type='LIF'), dict(type='SFA'), dict(type='NILIF')], ids=lambda n: n['type'])
def test_compiled_and_plain_neurons_count_alike(neuron) -> None:
    model = nn.Sequential(build_neuron(neuron), nn.Linear(6, 4))
    x = torch.randn(3, 2, 6) * 3
    compiled = only(count(model, x))
    with kernels.use(False):
        plain = count(model, x)
    assert only(plain) == compiled
    assert compiled.events > 0
    assert not plain.unknown
    assert {category for category, _ in plain.not_billed} == {'membrane updates (neurons)'}


def test_weights_of_zeros_and_ones_are_no_spikes() -> None:
    layer = nn.Linear(3, 4)
    with torch.no_grad():
        layer.weight.zero_()
    r = only(count(layer, torch.randn(2, 3)))
    assert (r.fed, r.float_macs) == ('floats', 2 * 3 * 4)


def test_raw_images_are_no_spikes_and_event_frames_are() -> None:
    conv = nn.Conv2d(3, 2, 1)
    assert only(count(conv, torch.randint(0, 256, (1, 3, 16, 16)).float())).fed == 'floats'
    assert only(count(conv, torch.randint(0, 3, (1, 3, 16, 16)).float())).fed == 'integers'


def test_analogue_output_of_a_neuron_is_floats() -> None:
    class Analogue(IF):
        def step(self, x, v):
            return x.relu(), v

    counter = count(nn.Sequential(Analogue(), nn.Linear(4, 2)), torch.rand(2, 1, 4))
    assert only(counter).fed == 'floats'
    assert only(counter).steps == 2
