"""Which spikes flip, in networks of which it can be told by hand."""

import pytest
import torch
from mmengine.model import BaseModel
from torch import nn

from mmspike.analysis import flips
from mmspike.analysis.flips import in_batch, in_float64, in_half, measure_norms, on_threads, plain, spike_flips
from mmspike.deploy import fuse
from mmspike.models.layers import SpikingConv
from mmspike.models.neurons import build_neuron

SFA = dict(type='SFA', levels=4, divisor=1)


class Weights(BaseModel):
    """Each of ``weights`` times the input, through a neuron; behind that, ``second`` times their sum, through another."""

    def __init__(self, weights, second=1.0, roi=False):
        super().__init__()
        self.backbone = nn.Linear(1, len(weights), bias=False)
        self.neuron = build_neuron(SFA)
        self.stages = nn.Linear(len(weights), 1, bias=False)
        self.last = build_neuron(SFA | dict(divisor=4))
        if roi:
            self.roi_head = build_neuron(SFA)
            self.roi_head.neuron = build_neuron(SFA)
        with torch.no_grad():
            self.backbone.weight.copy_(torch.tensor(weights)[:, None])
            self.stages.weight.fill_(second)
        self.threads = None

    def forward(self, inputs, mode='tensor'):
        self.threads = torch.get_num_threads()
        x = self.neuron(self.backbone(inputs)[None])  # [T, B, weights]
        if hasattr(self, 'roi_head'):
            self.roi_head.neuron(x)
        return self.last(self.stages(x))


def batch(*values):
    return dict(inputs=torch.tensor(values)[:, None])


def counted(report):
    return {name: (layer.outputs, layer.spikes, layer.flipped) for name, layer in report.layers.items()}


def test_an_unchanged_network_flips_nothing():
    network = Weights([0.5, 1.2, 2.7], 0.3)
    for other in (plain(network), in_batch(network, 3), on_threads(network, 2)):
        report = spike_flips([batch(1.0, 2.0), batch(0.3)], plain(network), other)
        assert report.total.flipped == 0 and report.total.outputs == 9 + 3 and report.batches == 2
        assert report.first == '' and str(report) == '0 of 12 spikes differ'


def test_known_neurons_flip_in_half_precision():
    """0.501 is 0.5 with eight significant bits, which is rounded to an even count; what reads it flips, too."""
    network = Weights([0.501, 2.2], 1.0)
    report = spike_flips([batch(1.0)], plain(network), in_half(network, torch.bfloat16))
    assert counted(report) == {'neuron': (2, 1 + 2, 1), 'last': (1, 3, 1)}
    assert str(report) == '2 of 3 spikes differ, first 1 of 2 in neuron'
    assert report.total.share == 2 / 3 and report.total.rate == 2.0
    # eleven bits hold it
    assert spike_flips([batch(1.0)], plain(network), in_half(network, torch.float16)).total.flipped == 0
    # 2 + 2 and 3 + 2 are both above what the last neuron sends
    report = spike_flips([batch(5.0)], plain(network), in_half(network, torch.bfloat16))
    assert counted(report)['last'] == (1, 4, 0)


def test_known_neurons_flip_in_float64():
    """0.1 in float32 is a bit more than a tenth; five of it are half a spike in float32, and more than that in float64."""
    network = Weights([0.1, 0.3])
    report = spike_flips([batch(5.0, 1.0)], plain(network), in_float64(network))
    assert counted(report)['neuron'] == (4, 2, 1) and report.first == 'neuron'
    assert network.backbone.weight.dtype == torch.float32


def test_folding_flips_what_its_rounding_moves():
    class Block(BaseModel):
        def __init__(self):
            super().__init__()
            self.conv = SpikingConv(1, 2, 1, neuron=SFA, norm_cfg=dict(type='BN', eps=0.0))
            self.neuron = build_neuron(SFA)
            with torch.no_grad():
                self.conv.conv.weight.fill_(3.0)
                self.conv.norm.running_var.copy_(torch.tensor([36.0, 4.0]))

        def forward(self, inputs, mode='tensor'):
            return self.neuron(self.conv(inputs[None]))

    network = Block().eval()
    folded = fuse(network)
    images = [dict(inputs=torch.ones(1, 1, 2, 2))]
    assert spike_flips(images, plain(network), plain(folded)).total.flipped == 0  # 3 / 6 and 3 / 2
    folded.conv.conv.weight.data[0] += 1e-6
    report = spike_flips(images, plain(network), plain(folded))
    assert counted(report) == {'conv.neuron': (4, 4, 0), 'neuron': (8, 8, 4)}


def test_stages_and_what_is_left_out():
    network = Weights([0.501, 2.2], roi=True)
    report = spike_flips([batch(1.0)], plain(network), in_half(network, torch.bfloat16))
    assert set(report.layers) == {'neuron', 'last'} and report.left_out == ['roi_head.neuron']
    assert [(x.name, x.flipped) for x in report.stages().values()] == [('neuron', 1), ('last', 1)]
    written = report.to_dict()
    assert written['total'] == dict(name='all', outputs=3, spikes=6, flipped=2, share=2 / 3, rate=2.0)
    assert written['first'] == 'neuron' and [x['name'] for x in written['layers']] == ['neuron', 'last']


def test_networks_that_do_not_compare():
    network, image = Weights([1.0]), [batch(1.0)]
    with pytest.raises(ValueError, match=r"called in one way only: \['last'\]"):
        spike_flips(image, plain(network), flips.Way(network, lambda data: network.neuron(data['inputs'][None])))
    twice = flips.Way(network, lambda data: (network.test_step(data), network.test_step(data)))
    with pytest.raises(ValueError, match='neuron was called 1 times in the first way and 2 times in the second'):
        spike_flips(image, plain(network), twice)
    with pytest.raises(ValueError, match=r'neuron sent \(1, 1, 1\) spikes in the first way and \(1, 1, 2\) in the second'):
        spike_flips(image, plain(network), plain(Weights([1.0, 2.0])))
    with pytest.raises(ValueError, match='has the network any'):
        spike_flips([], plain(network), plain(network))


def test_threads_are_set_within():
    network, before = Weights([1.0]), torch.get_num_threads()
    on_threads(network, before + 1).step(batch(1.0))
    assert network.threads == before + 1 and torch.get_num_threads() == before


def test_copies_in_a_batch():
    """The copies are as many as asked for, and a sum over the batch would show in the first one."""
    network = Weights([0.2, 1.2])
    step = in_batch(network, 4).step
    assert step(batch(1.0)).shape == (1, 4, 1)
    forward = network.forward
    network.forward = lambda inputs, mode='tensor': forward(inputs.sum(0, keepdim=True) / inputs.shape[0] ** 0.5, mode)
    report = spike_flips([batch(1.0)], plain(network), in_batch(network, 4))
    assert counted(report)['neuron'] == (2, 1, 1)  # 2.4 instead of 1.2 is 2, 0.4 instead of 0.2 is 0


def test_measured_norms():
    class Norm(BaseModel):
        def __init__(self):
            super().__init__()
            self.norm, self.neuron = nn.BatchNorm1d(1), build_neuron(SFA)

        def forward(self, inputs, mode='tensor'):
            return self.neuron(self.norm(inputs)[None])

    network = Norm()
    momentum = network.norm.momentum
    measure_norms(plain(network), [batch(1.0, 3.0), batch(5.0, 9.0)])
    assert network.norm.running_mean.item() == pytest.approx((2 + 7) / 2)
    assert network.norm.running_var.item() == pytest.approx((2 + 8) / 2)  # unbiased
    assert network.norm.momentum == momentum and network.training and network.norm.training
