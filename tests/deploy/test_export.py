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
from mmspike.models import ESpikeFormer, MetaSpikeFormer, Spikformer, SpikingVGG
from mmspike.models.layers import Chain, ConvNorm, Residual, SpikingConv, SpikingLinear
from mmspike.models.neurons import build_neuron

from .networks import ARCH, EASY, LIF, PATCHES, build, sfa, trained, whole_model


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
    for steps in (5, 1):
        x = 2 * torch.randn(steps, 3, 4, 6, dtype=torch.float64)
        with torch.no_grad():
            torch.testing.assert_close(plain(nn.Sequential(neuron))(x), neuron(x), rtol=0, atol=1e-12)


def test_plain_pools():
    """The exporter drops divisors: sums of counts are written out, and none is rounded."""
    x = torch.randint(0, 5, (2, 3, 9, 9)).float()
    for divisor in (1, 2):
        pool = nn.AvgPool2d(3, 2, 1, divisor_override=divisor)
        assert torch.equal(plain(nn.Sequential(pool))(x), (9 / divisor * nn.AvgPool2d(3, 2, 1)(x)).mul(2).round() / 2)
    with pytest.raises(ValueError, match=r'0 \(AvgPool2d with ceil_mode'):
        plain(nn.Sequential(nn.AvgPool2d(2, ceil_mode=True, divisor_override=1)))


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


@pytest.mark.parametrize(('frames', 'pool'), [((), 'max'), ((2,), 'avg')], ids=['images', 'frames'])
def test_onnx_batch_is_free(onnxruntime, frames, pool, tmp_path):
    """Whatever batch is asked for, others run as well. Pools of spikes that sum do so in the file, too."""
    arch = dict(dims=(4, 6, 8), depths=(2, 1, 1))
    network = fuse(trained(SpikingVGG(arch, T=2, in_channels=2, pool=pool, neuron=EASY)))
    assert export_onnx(network, (*frames, 1, 2, 32, 32), tmp_path / 'b.onnx') < 1e-4
    session = onnxruntime.InferenceSession(str(tmp_path / 'b.onnx'))
    for batch in (1, 5):
        x = torch.randn(*frames, batch, 2, 32, 32)
        with torch.no_grad():
            for a, b in zip(session.run(None, dict(inputs=x.numpy())), network(x), strict=True):
                assert len(a) == batch
                np.testing.assert_allclose(a, b.numpy(), atol=1e-4)


def test_onnx_classifier(repo, onnxruntime, tmp_path):
    pytest.importorskip('mmpretrain')
    _, model = whole_model(repo, 'espike_imagenet.py')
    network = fuse(build(model))
    assert export_onnx(network, (2, 3, 64, 64), tmp_path / 'new' / 'c.onnx') < 1e-4
    session = onnxruntime.InferenceSession(str(tmp_path / 'new' / 'c.onnx'))
    assert [o.name for o in session.get_outputs()] == ['logits']


def test_onnx_refuses(onnxruntime, tmp_path):
    with pytest.raises(ValueError, match='Linear cannot be exported to ONNX'):
        export_onnx(nn.Linear(2, 2), (1, 2), tmp_path / 'x.onnx')
    with pytest.raises(ValueError, match='adds up in float64'):
        export_onnx(expand(fuse(ESpikeFormer(ARCH))), (1, 3, 64, 64), tmp_path / 'x.onnx')


def run_nir(graph, x):
    """An interpreter of its own: forward Euler in steps of the file's dt, from its parameters alone; fires above thresholds."""
    dt = float(graph.metadata['dt'])
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
            elif kind == 'AvgPool2d':
                y = F.avg_pool2d(y, tuple(node.kernel_size), tuple(node.stride), tuple(node.padding))
            elif kind in ('LIF', 'IF'):
                p = {k: torch.tensor(v) for k, v in vars(node).items() if isinstance(v, np.ndarray)}
                v = state.get(name, torch.zeros_like(y))
                dv = (p['v_leak'] - v + p['r'] * y) * dt / p['tau'] if kind == 'LIF' else p['r'] * y * dt
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
    export_nir(model, (2, 16, 12), tmp_path / 'new' / 'chain.nir')
    graph = nir.read(str(tmp_path / 'new' / 'chain.nir'))
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
    graph = nir.read(str(tmp_path / 'stages.nir'))
    torch.testing.assert_close(run_nir(graph, x.expand(3, *x.shape)), expected, rtol=0, atol=1e-4)
    # readers would give what leads to the output one by one
    assert [a for a, b in graph.edges if b == 'output'] == ['sum'] and len([a for a, b in graph.edges if b == 'sum']) == 3


def test_nir_of_shortcuts_with_layers(tmp_path):
    """norse goes depth first and reads the branch too early that has not run yet, where both have layers; files say so."""
    nir = pytest.importorskip('nir')
    for shortcut in (dict(), dict(shortcut_conv=nn.Conv2d(2, 2, 1))):
        model = Residual(dict(conv=nn.Conv2d(2, 2, 1)), shortcut=shortcut, after=dict(neuron=build_neuron(LIF)))
        notes = export_nir(model, (2, 3, 3), tmp_path / 'n.nir')
        x = torch.randn(3, 1, 2, 3, 3)
        with torch.no_grad():
            assert torch.equal(run_nir(nir.read(str(tmp_path / 'n.nir')), x), model(x))
        assert any('WARNING: norse gets neuron wrong' in note for note in notes) == bool(shortcut)


def test_nir_refuses_by_name():
    pytest.importorskip('nir')
    with pytest.raises(ValueError, match=r'cannot express stages\.2\.1\.attn \(FusedAttention\), stages\.3\.1'):
        to_nir(MetaSpikeFormer(ARCH, T=1, neuron=LIF), (3, 64, 64))
    with pytest.raises(ValueError, match=r'cannot express 0\.neuron \(SFA\)'):
        to_nir(nn.Sequential(SpikingConv(3, 3, neuron=sfa(4))), (3, 8, 8))
    # pools of spikes that are no sums, and layers that know no time
    pools = SpikingVGG(dict(dims=(4, 6, 8), depths=(2, 1, 1)), T=1, pool='max', neuron=LIF)
    with pytest.raises(ValueError, match=r'express stages\.1\.0\.pool \(MaxPool2d\), stages\.2\.0\.pool \(MaxPool2d\): '):
        to_nir(pools, (3, 32, 32))
    with pytest.raises(ValueError, match=r'cannot express stem\.1\.pool \(MaxPool2d\)'):
        to_nir(Spikformer(PATCHES | dict(num_heads=2), T=1), (3, 64, 64))
    with pytest.raises(ValueError, match=r'cannot express 0 \(Conv2d of torch, which knows no time steps: put it in a Chain\)'):
        to_nir(nn.Sequential(nn.Conv2d(3, 4, 3), SpikingConv(4, 4, neuron=LIF)), (3, 8, 8))
    shared = SpikingConv(3, 3, neuron=LIF)
    with pytest.raises(ValueError, match=r'cannot express 0\.neuron \(LIF, which runs twice\)'):
        to_nir(nn.Sequential(shared, shared), (3, 8, 8))
    with pytest.raises(ValueError, match='dt must be positive'):
        to_nir(shared, (3, 8, 8), dt=0)


def test_nir_of_average_pools(tmp_path):
    nir = pytest.importorskip('nir')
    model = trained(SpikingVGG(dict(dims=(4, 6, 8), depths=(2, 1, 2)), T=3, neuron=EASY, temporal_output='keep'))
    export_nir(model, (3, 32, 32), tmp_path / 'vgg.nir')
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = model(x)[-1]
    out = run_nir(nir.read(str(tmp_path / 'vgg.nir')), x.expand(3, *x.shape))
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize('dt', [1e-4, 1e-3, 1.0])
def test_nir_in_seconds(tmp_path, dt):
    """Time constants are in seconds of a dt that the file names; a membrane right at the threshold fires."""
    nir = pytest.importorskip('nir')
    model = nn.Sequential(Chain(lif=build_neuron(LIF | dict(v_threshold=0.5))), Chain(neuron=build_neuron(dict(type='IF'))))
    notes = export_nir(model, (3, 1, 1), tmp_path / 'n.nir', dt)
    graph = nir.read(str(tmp_path / 'n.nir'))
    assert graph.metadata['dt'] == dt and f'a time step is {dt:g} s' in notes[0]
    lif, if_ = graph.nodes['0.lif'], graph.nodes['1.neuron']
    np.testing.assert_allclose(lif.tau, 2 * dt, rtol=1e-6)
    np.testing.assert_allclose(if_.r, 1 / dt, rtol=1e-6)
    assert (lif.r == 1).all() and lif.v_threshold.max() < 0.5 and np.nextafter(lif.v_threshold, np.float32(1)).max() == 0.5
    x = torch.tensor([1.0, 0.9, 0.0]).view(1, 1, 3, 1, 1).expand(2, -1, -1, -1, -1)
    with torch.no_grad():
        assert torch.equal(run_nir(graph, x), model(x)) and model(x)[0].flatten().tolist() == [1, 0, 0]


def test_nir_resets(tmp_path):
    """A reset to 0 is the default of every reader, and left out; another one is warned of."""
    nir = pytest.importorskip('nir')
    h5py = pytest.importorskip('h5py')
    for v_reset in (0.0, -0.5):
        neuron = dict(type='LIF', v_reset=v_reset)
        notes = export_nir(SpikingConv(2, 2, neuron=neuron), (2, 3, 3), tmp_path / 'n.nir')
        with h5py.File(tmp_path / 'n.nir') as file:
            assert ('v_reset' in file['node/nodes/neuron']) == (v_reset != 0)
        assert nir.read(str(tmp_path / 'n.nir')).nodes['neuron'].v_reset.max() == v_reset
        assert any('WARNING: neuron resets to -0.5' in note for note in notes) == (v_reset != 0)
