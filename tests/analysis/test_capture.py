"""Pictures of membranes, spikes and attention against the values that the network computed."""

import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from PIL import Image
from torch import nn

from mmspike.analysis import plots
from mmspike.analysis.capture import attention_maps, last_of_each_stage, membranes, neuron_maps
from mmspike.models.backbones import (
    ESpikeFormer,
    MetaSpikeFormer,
    SAFormer,
    SpikeDrivenTransformer,
    Spikeformer,
    Spikformer,
    SpikingResformer,
)
from mmspike.models.inspection import is_neuron, spike_unit
from mmspike.models.neurons import SFA, build_neuron

ARCH = dict(dims=(8, 16, 16, 16), depths=(1, 1, 1, 1, 1), num_heads=2)
PATCHES = dict(dims=(8, 8, 16, 16), depth=1, num_heads=2)
EASY = dict(type='LIF', v_threshold=0.3)


class Net(BaseModel):
    """A backbone of which everything fires, as a model of a host."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        for m in self.modules():
            if isinstance(m, nn.BatchNorm2d):
                nn.init.uniform_(m.bias, 0.5, 2.5)

    def forward(self, inputs, mode='tensor'):
        return self.backbone(inputs)


def test_maps_and_attention(tmp_path) -> None:
    net, batch = Net(ESpikeFormer(ARCH)), dict(inputs=torch.randn(1, 3, 64, 48))
    spikes = {}
    neurons = {n: m for n, m in net.named_modules() if isinstance(m, SFA)}
    for name, m in neurons.items():
        m.register_forward_hook(lambda m, a, out, name=name: spikes.__setitem__(name, out * 4))
    maps = neuron_maps(net, batch)
    assert set(maps) == set(neurons)
    name = 'backbone.stages.1.1.neuron1'
    np.testing.assert_allclose(maps[name][1], spikes[name][0, 0].mean(0), rtol=1e-5)
    last = last_of_each_stage(maps)
    assert [n.rsplit('.', 2)[0] for n in last][:2] == ['backbone.stem', 'backbone.stages.0']
    assert len(last) == 5
    attention = attention_maps(net, batch)
    name = 'backbone.stages.2.1.attn'
    assert set(attention) == {name, 'backbone.stages.3.1.attn'}
    q, k = (spikes[f'{name}.{x}_neuron'][0, 0].reshape(2, 8, 12) for x in 'qk')
    expected = (q.transpose(1, 2) @ k).mean((0, 1)).reshape(4, 3)  # over heads and queries
    np.testing.assert_allclose(attention[name], expected, rtol=1e-4)
    with pytest.raises(ValueError, match='has no attention of spikes'):
        attention_maps(BaseModelWithout(), batch)
    image = np.zeros((64, 48, 3), np.uint8)
    plots.plot_maps(image, last, tmp_path / 'maps.png')
    plots.plot_attention(None, attention, tmp_path / 'attention.png')
    for file in ('maps.png', 'attention.png'):
        assert np.asarray(Image.open(tmp_path / file).convert('L')).std() > 0


def test_membranes_by_hand() -> None:
    x = torch.tensor([1.5, 1.5, 3.0, 0.2]).view(4, 1, 1)
    lif, integer = build_neuron(dict(type='LIF', tau=2.0)), build_neuron(dict(type='NILIF', levels=4, beta=0.5))
    # tau 2, threshold 1: 0.75, 0.75 + (1.5 - 0.75) / 2 fires, 1.5 fires, 0.1
    assert membranes(lif, x).flatten().tolist() == pytest.approx([0.75, 1.125, 1.5, 0.1])
    assert lif(x).flatten().tolist() == [0, 1, 1, 0] and lif.v_threshold == 1
    # counts 2, 1, 3, 0: half of what is left goes on
    assert membranes(integer, x).flatten().tolist() == pytest.approx([1.5, 1.25, 3.125, 0.2625])
    assert membranes(SFA(4), x) is x


def test_membrane_of_an_analogue_neuron() -> None:
    """PLIAF gives its membrane where that is positive, and keeps it."""
    neuron = build_neuron(dict(type='PLIAF', tau=2.0))
    x = torch.tensor([-1.0, 1.5, 3.0, 0.2]).view(4, 1, 1)
    assert membranes(neuron, x).flatten().tolist() == pytest.approx([-0.5, 0.5, 1.75, 0.1])
    assert neuron(x).flatten().tolist() == pytest.approx([0, 0.5, 1.75, 0.1])


class BaseModelWithout(BaseModel):
    def forward(self, inputs, mode='tensor'):
        return inputs


# a backbone whose attention multiplies tokens, or that has neurons on tokens and pairs of them
@pytest.mark.parametrize(
    'backbone',
    [
        lambda: Spikformer(PATCHES, T=2, neuron=EASY),
        lambda: SpikingResformer(dict(dims=(16, 16, 32), num_heads=(1, 2, 2), group_size=8), T=2, neuron=EASY),
        lambda: Spikeformer(PATCHES, T=2, neuron=dict(type='PLIF', v_threshold=0.3)),
        lambda: SAFormer(PATCHES, T=2, neuron=EASY),
    ],
    ids=['spikformer', 'resformer', 'spikeformer', 'saformer'],
)
def test_a_map_has_the_shape_of_the_image(backbone) -> None:
    """Neither heads, channels nor pairs of tokens are taken for height and width."""
    net = Net(backbone())
    maps = neuron_maps(net, dict(inputs=torch.randn(1, 3, 64, 96)))
    assert maps
    for name, (membrane, spikes) in maps.items():
        assert membrane.shape == spikes.shape and 3 * spikes.shape[0] == 2 * spikes.shape[1], name
    tokens = {n for n, m in net.named_modules() if is_neuron(m) and m.layout}
    assert not tokens & set(maps)


def test_map_of_an_attention_neuron() -> None:
    net = Net(Spikformer(PATCHES, T=2, neuron=EASY))
    seen = []
    net.backbone.stages[2][1].attn.attn_neuron.register_forward_hook(lambda m, a, out: seen.append(out / spike_unit(m)))
    membrane, spikes = neuron_maps(net, dict(inputs=torch.randn(1, 3, 64, 96)))['backbone.stages.2.1.attn.attn_neuron']
    assert seen[0].shape == (2, 1, 16, 4, 6) and seen[0].any()
    np.testing.assert_allclose(spikes, seen[0][:, 0].mean((0, 1)), rtol=1e-5)


@pytest.mark.parametrize(
    ('backbone', 'attentions'),
    [
        (lambda: Spikformer(PATCHES, T=1, neuron=EASY), 1),
        (lambda: MetaSpikeFormer(ARCH, T=1, neuron=EASY), 2),
        (lambda: MetaSpikeFormer(ARCH, T=1, sdsa=4, neuron=EASY), 2),
        (lambda: MetaSpikeFormer(ARCH, T=1, sdsa=1, neuron=EASY), 0),
        (lambda: SpikeDrivenTransformer(dict(dims=(8, 8, 16, 16), depth=1), T=1, neuron=EASY), 0),
        (lambda: SAFormer(PATCHES, T=1, neuron=EASY), 0),
    ],
    ids=['spikformer', 'sdsa3', 'sdsa4', 'sdsa1', 'v1', 'saformer'],
)
def test_attention_is_shown_only_where_tokens_are_multiplied(backbone, attentions) -> None:
    net, batch = Net(backbone()), dict(inputs=torch.randn(1, 3, 64, 64))
    if attentions:
        assert len(attention_maps(net, batch)) == attentions
    else:
        with pytest.raises(ValueError, match=r'multiplies q by k: its backbone.stages.2.1.attn masks channels or tokens'):
            attention_maps(net, batch)
