"""Binary steps equal whole counts, bit by bit."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from mmspike.deploy import compare, difference, expand, fuse
from mmspike.deploy.layers import Accumulate, BinarySteps
from mmspike.models import ESpikeFormer
from mmspike.models.layers import SpikingConv
from mmspike.models.neurons import build_neuron

from .networks import ARCH, BACKBONES, build, sample, sfa, spikes_of, trained, whole_model


@pytest.mark.parametrize('name', BACKBONES)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_backbones_are_equal_bit_by_bit(name, dtype):
    network = fuse(trained(BACKBONES[name]()).to(dtype))
    x = torch.randn(2, 3, 64, 64, dtype=dtype)
    integers, binary = expand(network, binary=False), expand(network)
    with torch.no_grad():
        expected = network(x)
        for a, b in zip(integers(x), binary(x), strict=True):
            assert a.dtype == dtype and torch.equal(a, b)
        assert difference(expected, binary(x)).largest < (1e-5 if dtype == torch.float32 else 1e-9)
    inner = {f'{n}.neuron' for n, m in binary.named_modules() if isinstance(m, BinarySteps)}
    for key, spikes in spikes_of(binary, lambda: binary(x)).items():
        if key not in inner:  # counts, before they become steps
            assert ((spikes == 0) | (spikes == 1)).all() and spikes.any(), key


def test_weights_read_binary_steps_only():
    binary = expand(fuse(trained(ESpikeFormer(ARCH, neuron=sfa(4)))))
    reads = {}
    for key, m in binary.named_modules():
        if isinstance(m, Accumulate):
            m.register_forward_pre_hook(lambda m, args, key=key: reads.update({key: args[0]}))
    with torch.no_grad():
        binary(torch.randn(1, 3, 64, 64))
    assert len(reads) == len([m for m in binary.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]) - 1  # all but the first
    for key, x in reads.items():
        assert set(x.unique().tolist()) <= {0.0, 1.0} and len(x) in (4, 1), key


def test_a_count_is_as_many_steps():
    steps = BinarySteps(build_neuron(sfa(4, 1)))
    x = torch.linspace(-1, 6, 29).view(1, 1, -1).repeat(2, 1, 1)
    out = steps(x)
    assert out.shape == (8, 1, 29)
    assert torch.equal(out.unflatten(0, (4, 2)).sum(0), steps.neuron(x))


@pytest.mark.parametrize('name', ['mask_rcnn_espike_coco.py', 'fpn_espike_nuclei.py', 'espike_imagenet.py'])
def test_whole_models(repo, name):
    cfg, model = whole_model(repo, name)
    network = fuse(build(model))
    found = compare(expand(network, binary=False), expand(network), sample(cfg.default_scope, (64, 64)))
    assert found.largest == 0 and found.flipped == 0, found


def test_no_boxes(repo):
    """A level, or an image, without boxes."""
    cfg, model = whole_model(repo, 'mask_rcnn_espike_coco.py')
    network = expand(fuse(build(model)))
    head = network.roi_head.mask_head
    with torch.no_grad():
        assert head(torch.zeros(1, 0, 16, 14, 14)).shape == (0, 4, 28, 28)


def test_any_order_of_sums_is_exact():
    """Weights of very different sizes: float32 sums depend on their order, the accumulator's do not."""
    torch.manual_seed(0)
    conv = nn.Conv2d(512, 2, 3, bias=False).requires_grad_(False)
    conv.weight *= 10.0 ** torch.randint(-6, 3, conv.weight.shape)
    before = conv.weight.clone()
    layer = Accumulate(conv, 1, 4)
    torch.testing.assert_close(conv.weight, before, rtol=0, atol=before.abs().sum().item() * 1e-15)
    x = torch.randint(0, 5, (1, 512, 3, 3)).float()
    order = torch.randperm(512)
    shuffled = deepcopy(layer)
    shuffled.layer.weight = nn.Parameter(layer.layer.weight[:, order], requires_grad=False)
    assert torch.equal(layer(x), shuffled(x[:, order]))


def test_what_sends_no_counts_is_refused():
    relu = fuse(SpikingConv(4, 4, neuron=dict(type='ReLU'), norm_cfg=dict(type='BN')))
    with pytest.raises(ValueError, match=r'neuron \(ReLU\(\)\) sends no whole counts'):
        expand(relu)
    with pytest.raises(ValueError, match=r'call fuse\(\) first'):
        expand(ESpikeFormer(ARCH))
    new = nn.Sequential(SpikingConv(3, 4, neuron=sfa(4)), build_neuron(sfa(4)))
    with pytest.raises(ValueError, match=r'no rule says what reads the counts of 1 \(SFA, 4 levels\)'):
        expand(fuse(new))
    group_norm = fuse(SpikingConv(4, 4, neuron=sfa(4), norm_cfg=dict(type='GN', num_groups=2)))
    with pytest.raises(ValueError, match='GroupNorm'):
        expand(group_norm)
