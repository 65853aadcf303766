"""What every backbone, neck and head must do, whatever it is made of."""

import pytest
import torch

from mmspike.registry import MODELS
from mmspike.utils.registered import registered

from .backbones.test_backbones import SMALL, backbones, small
from .test_state_dicts import NETWORKS

T, LIF = 2, dict(type='LIF', v_threshold=0.45)
# of the networks that are no backbones: the kind of input, and the channels of its levels
INPUTS = dict(
    SpikingFPN=('levels', (4, 6)),
    SpikingSimplePyramid=('levels', (4,)),
    SpikingYOLOPAFPN=('levels', (4, 6, 8)),
    SpikingRPNHead=('levels', (4, 4)),
    SpikingRetinaHead=('levels', (4, 4)),
    SpikingYOLOHead=('levels', (4, 4, 6)),
    SpikingShared2FCBBoxHead=('regions', (4,)),
    SpikingShared4Conv1FCBBoxHead=('regions', (4,)),
    SpikingFCNMaskHead=('regions', (4,)),
    SpikingFPNHead=('levels', (4, 6)),
    SpikingFCNHead=('levels', (4, 6)),
    SpikingDeepLabHead=('levels', (4,)),
    SpikingMaskFormerHead=('levels', (4, 6)),
    SpikingPanopticHead=('levels', (4, 6)),
    SpikingLinearClsHead=('levels', (4,)),
    AttentionPoolClsHead=('levels', (4,)),
)
# of PyTorch, which would save its input
LAYERS = ('ConvolutionBackward', 'NativeBatchNormBackward', 'MaxPool2D', 'AvgPool2D', 'AddmmBackward')
# linear layers of the ordinary kind, on real values
UNFUSED = ('Spikeformer', 'AttentionPoolClsHead', 'SpikingLinearClsHead')


def build(name):
    """A network of :data:`NETWORKS` that fires, and its input by number of samples."""
    torch.manual_seed(0)
    cfg = NETWORKS[name]
    cfg = cfg | dict(neuron=LIF) if 'neuron' in cfg else cfg
    model = MODELS.build(dict(type=f'mmspike.{name}', **cfg))
    kind, channels = INPUTS[name]

    def inputs(samples):
        generator = torch.Generator().manual_seed(1)
        sizes = [(7, 7)] if kind == 'regions' else [(16 // 2**i, 24 // 2**i) for i in range(len(channels))]
        xs = [
            torch.randn(T, samples, c, *s, generator=generator, dtype=torch.float64) * 2
            for c, s in zip(channels, sizes, strict=True)
        ]
        return xs[0] if kind == 'regions' else tuple(xs)

    return model, inputs


def flat(outputs):
    return [outputs] if isinstance(outputs, torch.Tensor) else [t for o in outputs for t in flat(o)]


def alone(x, i):
    """Sample ``i`` of features, tuples of features or images."""
    if isinstance(x, tuple):
        return tuple(alone(level, i) for level in x)
    return x[:, i : i + 1] if x.dim() == 5 else x[i : i + 1]


def assert_alone_equals_batch(model, x):
    model = model.double().eval()
    with torch.no_grad():
        together = flat(model(x))
        for i in range(3):
            for a, b in zip(flat(model(alone(x, i))), together, strict=True):
                torch.testing.assert_close(a, alone(b, i))
    assert any(t.std() > 0 for t in together)


@pytest.mark.parametrize('name', backbones())
def test_an_image_alone_gives_what_it_gives_in_a_batch(name):
    """State runs over time, never over the batch."""
    assert_alone_equals_batch(small(name), torch.randn(3, 3, 64, 64, dtype=torch.float64))


def test_an_image_alone_with_extra_stages():
    backbone = dict(type='mmspike.MetaSpikeFormer', **SMALL['MetaSpikeFormer'])
    model = MODELS.build(dict(type='mmspike.ExtraStages', backbone=backbone, num_stages=2, neuron=LIF))
    assert_alone_equals_batch(model, torch.randn(3, 3, 64, 64, dtype=torch.float64))


# not run by themselves: bases, parts of others, what has no weights
APART = {
    'CIoULoss',
    'CIoUOverlaps',
    'DistilledImageClassifier',
    'EventDataPreprocessor',
    'EventDetDataPreprocessor',
    'EventDetector',
    'EventSegDataPreprocessor',
    'SpikingCascadeRoIHead',
    'SpikingConvFCBBoxHead',
    'SpikingRoIExtractor',
    'SpikingStandardRoIHead',
    'TemporalMean',
}


def test_every_neck_and_head_is_here():
    packages = ('necks', 'detection', 'segmentation', 'classification')
    names = {found.name for package in packages for found in registered(f'mmspike.models.{package}')}
    assert names - APART == set(INPUTS)


@pytest.mark.parametrize('name', INPUTS)
def test_features_alone_give_what_they_give_in_a_batch(name):
    model, inputs = build(name)
    assert_alone_equals_batch(model, inputs(3))


def nodes(outputs):
    """Names of the nodes of the graph behind outputs."""
    names, waiting, seen = set(), [t.grad_fn for t in flat(outputs) if t.grad_fn is not None], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        names.add(type(node).__name__)
        waiting += [parent for parent, _ in node.next_functions]
    return names


@pytest.mark.parametrize('name', [n for n in backbones() if n not in UNFUSED])
def test_every_block_of_a_backbone_is_fused(name):
    found = nodes(small(name)(torch.randn(2, 3, 64, 64)))
    assert {'_SpikeConvBackward', '_NormNeuronBackward'} <= found
    assert not [n for n in found if n.startswith(LAYERS)]


@pytest.mark.parametrize('name', [n for n in INPUTS if n not in UNFUSED])
def test_every_layer_of_necks_and_heads_is_fused(name):
    model, inputs = build(name)
    model = model.float()
    if hasattr(model, 'dropout'):
        model.dropout.eval()
    x = inputs(3)
    found = nodes(model(x.float() if isinstance(x, torch.Tensor) else tuple(level.float() for level in x)))
    assert '_SpikeConvBackward' in found
    assert not [n for n in found if n.startswith(LAYERS)]
