"""ONNX against onnxruntime, NIR through its own package."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmspike.deploy import expand, fuse
from mmspike.deploy.nir_export import export_nir, to_nir
from mmspike.deploy.onnx_export import export_onnx, require
from mmspike.deploy.plain import plain
from mmspike.models import ESpikeFormer, MetaSpikeFormer
from mmspike.models.layers import ConvNorm, SpikingConv, SpikingLinear
from mmspike.models.neurons import build_neuron

from .networks import ARCH, LIF, build, sfa, trained, whole_model


@pytest.mark.parametrize(
    'cfg',
    [
        LIF,
        dict(type='LIF', tau=3.0, v_threshold=0.7, v_reset=-0.5),
        dict(type='PLIF', tau=4.0),
        dict(type='IF', v_reset=0.25),
        sfa(4),
        sfa(8, 1),
        dict(type='ILIF', levels=4),
        dict(type='NILIF', levels=4),
    ],
)
def test_plain_neurons(cfg):
    neuron = build_neuron(cfg)
    x = 2 * torch.randn(5, 3, 4, 6, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(plain(nn.Sequential(neuron))(x), neuron(x), rtol=0, atol=1e-12)


def test_neurons_without_plain_form_are_named():
    stateful = nn.Sequential(nn.Sequential(build_neuron(dict(type='LIF', stateful=True))))
    with pytest.raises(ValueError, match=r'0\.0 \(LIF that keeps its membrane'):
        plain(stateful)
    spikingjelly = pytest.importorskip('spikingjelly.activation_based.neuron')
    with pytest.raises(ValueError, match=r'cannot export 1 \(IFNode\)'):
        plain(nn.Sequential(nn.Conv2d(1, 1, 1), spikingjelly.IFNode()))


def test_missing_packages_are_named():
    with pytest.raises(ImportError, match='NIR export needs not_there, .*pip install not_there'):
        require(['not_there'], 'NIR export')


@pytest.fixture
def onnxruntime():
    pytest.importorskip('onnx')
    pytest.importorskip('onnxscript')
    return pytest.importorskip('onnxruntime')


def test_onnx_backbone(onnxruntime, tmp_path):
    network = fuse(trained(MetaSpikeFormer(ARCH, T=2, neuron=LIF, out_indices=(0, 2))))
    assert export_onnx(network, (2, 3, 64, 64), tmp_path / 'b.onnx') < 1e-4
    session = onnxruntime.InferenceSession(str(tmp_path / 'b.onnx'))
    assert [o.name for o in session.get_outputs()] == ['features_0', 'features_1']
    x = torch.randn(3, 3, 64, 64)  # another batch
    with torch.no_grad():
        for a, b in zip(session.run(None, dict(inputs=x.numpy())), network(x), strict=True):
            np.testing.assert_allclose(a, b.numpy(), atol=1e-4)
    # nothing but operations that every runtime has
    import onnx

    assert {n.domain for n in onnx.load(tmp_path / 'b.onnx').graph.node} <= {'', 'ai.onnx'}


def test_onnx_classifier(repo, onnxruntime, tmp_path):
    pytest.importorskip('mmpretrain')
    _, model = whole_model(repo, 'espike_imagenet.py')
    network = fuse(build(model))
    assert export_onnx(network, (2, 3, 64, 64), tmp_path / 'c.onnx') < 1e-4
    session = onnxruntime.InferenceSession(str(tmp_path / 'c.onnx'))
    assert [o.name for o in session.get_outputs()] == ['logits']


def test_onnx_refuses(onnxruntime, tmp_path):
    with pytest.raises(ValueError, match='Linear cannot be exported to ONNX'):
        export_onnx(nn.Linear(2, 2), (1, 2), tmp_path / 'x.onnx')
    with pytest.raises(ValueError, match='adds up in float64'):
        export_onnx(expand(fuse(ESpikeFormer(ARCH))), (1, 3, 64, 64), tmp_path / 'x.onnx')


def run_nir(graph, x):
    """An interpreter of its own: forward Euler with steps of one unit of time, from the file's parameters alone."""
    order, edges = [], list(graph.edges)
    while len(order) < len(graph.nodes):
        order += [n for n in graph.nodes if n not in order and all(a in order for a, b in edges if b == n)]
    state, outs = {}, []
    for frame in x:
        values = {}
        for name in order:
            node = graph.nodes[name]
            kind = type(node).__name__
            y = frame if kind == 'Input' else sum(values[a] for a, b in edges if b == name)
            if kind == 'Conv2d':
                w, b = torch.tensor(node.weight), torch.tensor(node.bias)
                y = F.conv2d(y, w, b, tuple(node.stride), tuple(node.padding), tuple(node.dilation), node.groups)
            elif kind in ('Affine', 'Linear'):
                y = F.linear(y, torch.tensor(node.weight), torch.tensor(node.bias) if kind == 'Affine' else None)
            elif kind in ('LIF', 'IF'):
                p = {k: torch.tensor(v) for k, v in vars(node).items() if isinstance(v, np.ndarray)}
                v = state.get(name, torch.zeros_like(y))
                dv = (p['v_leak'] - v + p['r'] * y) / p['tau'] if kind == 'LIF' else p['r'] * y
                fired = v + dv > p['v_threshold']
                state[name] = torch.where(fired, p['v_reset'], v + dv)
                y = fired.float()
            values[name] = y
        outs.append(values['output'])
    return torch.stack(outs)


def chain():
    return trained(
        nn.Sequential(
            ConvNorm(2, 8, 3, 2),
            SpikingConv(8, 8, 3, neuron=LIF, norm_cfg=dict(type='BN')),
            SpikingConv(8, 6, 3, 2, groups=2, neuron=dict(type='IF')),
            SpikingConv(6, 4, neuron=dict(type='PLIF', tau=3.0, v_threshold=0.5)),
        )
    )


def test_nir_round_trip(tmp_path):
    nir = pytest.importorskip('nir')
    model = chain()
    export_nir(model, (2, 16, 12), tmp_path / 'chain.nir')
    graph = nir.read(str(tmp_path / 'chain.nir'))
    assert sorted(type(n).__name__ for n in graph.nodes.values()) == sorted(
        ['Input', 'Output', 'LIF', 'IF', 'LIF'] + ['Conv2d'] * 4
    )
    x = 2 * torch.randn(4, 3, 2, 16, 12)
    with torch.no_grad():
        expected = model(x)
    assert expected.std() > 0.1
    torch.testing.assert_close(run_nir(graph, x), expected, rtol=0, atol=1e-5)
    linear = nn.Sequential(SpikingLinear(5, 7, neuron=LIF), SpikingLinear(7, 3, neuron=LIF))
    export_nir(linear, (5,), tmp_path / 'linear.nir')
    x = 3 * torch.randn(4, 2, 5)
    with torch.no_grad():
        torch.testing.assert_close(run_nir(nir.read(str(tmp_path / 'linear.nir')), x), linear(x), rtol=0, atol=1e-5)


def test_nir_of_shortcuts(tmp_path):
    """The convolutional stages of Meta-SpikeFormer: membrane shortcuts are nodes with several edges in."""
    nir = pytest.importorskip('nir')
    model = trained(MetaSpikeFormer(ARCH, T=3, neuron=LIF, out_indices=(1,), temporal_output='keep'))
    export_nir(model, (3, 32, 32), tmp_path / 'stages.nir')
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        (expected,) = model(x)
    out = run_nir(nir.read(str(tmp_path / 'stages.nir')), x.expand(3, *x.shape))
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-4)


def test_nir_refuses_by_name():
    pytest.importorskip('nir')
    with pytest.raises(ValueError, match=r'cannot express stages\.2\.1\.branches\.0 \(FusedAttention\), stages\.3\.1'):
        to_nir(MetaSpikeFormer(ARCH, T=1, neuron=LIF), (3, 64, 64))
    with pytest.raises(ValueError, match=r'cannot express 0\.neuron \(SFA\)'):
        to_nir(nn.Sequential(SpikingConv(3, 3, neuron=sfa(4))), (3, 8, 8))
