"""Integers all the way: the file computes what the network does with rounded weights, spike by spike."""

import copy

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from mmspike.deploy import fuse
from mmspike.deploy.engines import ENGINES, installed_engines
from mmspike.deploy.layers import ThresholdSFA
from mmspike.deploy.plain import PlainThresholds, plain, scale_of
from mmspike.models.backbones.base import SpikingBackbone
from mmspike.models.layers import Chain, ConvNorm, Residual, SpikeAttention, SpikingConv, set_weight_bits, used_weight
from mmspike.models.layers.low_bit import LowBit

from .networks import LIF, sfa, trained

ir = pytest.importorskip('onnx_ir')
pytest.importorskip('onnxscript')
onnxruntime = pytest.importorskip('onnxruntime')

from mmspike.analysis.flips import FlipReport, Flips  # noqa: E402
from mmspike.deploy import engine_check  # noqa: E402
from mmspike.deploy.engine_check import EngineCheck, bfloat16_warning, check_engine, mended, tapped, with_weights  # noqa: E402
from mmspike.deploy.int8_correction import keep_sums  # noqa: E402
from mmspike.deploy.int8_graph import Pixels, quantize  # noqa: E402
from mmspike.deploy.int8_weights import quantize_weight  # noqa: E402
from mmspike.deploy.onnx_export import export_onnx  # noqa: E402
from mmspike.deploy.whole import Calls  # noqa: E402

NORM = dict(type='BN')


class Small(SpikingBackbone):
    """A convolution of the image, a shortcut, an attention of counts, and LIF neurons."""

    def __init__(self) -> None:
        super().__init__(T=2)
        stages = [
            Residual(
                dict(
                    conv1=SpikingConv(8, 12, 1, neuron=sfa(4), norm_cfg=NORM),
                    conv2=SpikingConv(12, 8, 3, neuron=sfa(4), norm_cfg=NORM),
                )
            ),
            SpikeAttention(8, 2, lambda name: ConvNorm(8, 8), sfa(4)),
            SpikingConv(8, 6, 3, 2, neuron=LIF, norm_cfg=NORM),
        ]
        stem = nn.Sequential(Chain(conv=ConvNorm(3, 8, 3, 2)))
        self._register_stages(stem, [nn.Sequential(stage) for stage in stages], [8, 8, 8, 6], [2, 2, 2, 4])


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    """The float32 file of a small network, what was exported, and an image."""
    torch.manual_seed(0)
    network = fuse(trained(Small()))
    path = tmp_path_factory.mktemp('onnx') / 'small.onnx'
    assert export_onnx(network, (1, 3, 32, 32), path) < 1e-4
    module = Calls(plain(network), nn.Module.__call__).eval()
    return path, module, np.random.default_rng(0).standard_normal((1, 3, 32, 32), np.float32)


def test_neurons_and_sums_stay_folded(exported):
    graph = ir.load(exported[0]).graph
    assert {
        len(n.inputs[0].shape) for n in graph if n.op_type in ('Conv', 'Add', 'Clip', 'Round') and 'attn' not in n.name
    } == {4}
    perms = [list(n.attributes.get_ints('perm')) for n in graph if n.op_type == 'Transpose']
    assert [0, 2, 3, 1] in perms and not [p for p in perms if len(p) == 5 and p[:2] == [0, 1]]
    check = check_engine(*exported, 'onnxruntime')
    assert check.same and not check.spikes.total.flipped and check.spikes.total.outputs > 10000


@pytest.mark.parametrize('engine', ENGINES)
def test_the_integer_file_has_the_spikes_of_rounded_weights(exported, engine, tmp_path):
    path, module, image = exported
    model = ir.load(path)
    weights = quantize(model, engine)
    ir.save(model, tmp_path / 'int8.onnx')
    graph = ir.load(tmp_path / 'int8.onnx').graph
    # all but the convolution of the image: three of two shortcuts, four of the attention, one of LIF
    kernels = [name for name in weights if name.endswith('weight')]
    assert len(kernels) == 7 and not any('stem' in name for name in kernels)
    assert (
        sum(v.dtype in (ir.DataType.INT8, ir.DataType.UINT8) and v.const_value.size > 1 for v in graph.initializers.values())
        >= 7
    )
    floats = [n for n in graph if n.op_type == 'Conv' and n.inputs[1].is_initializer()]
    assert len(floats) == 1  # the image's
    operations = {n.op_type for n in graph}
    if engine == 'onnxruntime':
        assert {'QLinearConv', 'ConvInteger', 'MatMulInteger'} <= operations
    else:  # of what a Cast makes OpenVINO runs convolutions in float32
        assert not [n for n in graph if n.op_type == 'Cast' and n.outputs[0].dtype in (ir.DataType.UINT8, ir.DataType.INT8)]
    reference = with_weights(module, weights)
    with torch.no_grad():
        expected = reference(torch.from_numpy(image))
    if engine in installed_engines():
        check = check_engine(tmp_path / 'int8.onnx', reference, image, engine)
        assert check.same and not check.spikes.total.flipped, str(check)
    # as the operators are defined; onnxruntime's optimisations round biases of what is dequantised
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    outputs = onnxruntime.InferenceSession(tmp_path / 'int8.onnx', options).run(None, dict(inputs=image))
    for a, b in zip(outputs, expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(a), b, rtol=1e-4, atol=1e-5)


def test_trained_integers_are_those_of_the_file(exported, tmp_path):
    """Of a network of weight_bits=8: numbers and steps as they were learned, so that the file computes what was trained."""
    torch.manual_seed(0)
    network = trained(Small())
    assert len(set_weight_bits(network, 8, keep=['stem'])) == 7
    image = torch.from_numpy(exported[2])
    network(image)  # steps begin
    layers = {name: m for name, m in network.named_modules() if isinstance(m, LowBit)}
    with torch.no_grad():
        for layer in layers.values():
            layer.weight_step *= torch.linspace(0.7, 1.3, len(layer.weight_step))
            layer.weight.view(len(layer.weight), -1)[:, :2] -= 200 * layer.weight_step[:, None]  # the smallest numbers
        for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.weight[::2] *= -1
        double = copy.deepcopy(network).double()
        expected = double(image.double())
    model = ir.load(exported[0])
    for name, parameter in Calls(plain(fuse(network)), nn.Module.__call__).named_parameters():
        model.graph.initializers[name].const_value = ir.tensor(parameter.numpy(), name=name)
    quantize(model, 'openvino')
    ir.save(model, tmp_path / 'int8.onnx')
    stored = [v.const_value.numpy() for v in model.graph.initializers.values() if v.dtype == ir.DataType.INT8]
    for layer in layers.values():
        step = layer.weight_step.view(-1, *[1] * (layer.weight.dim() - 1))
        numbers = (used_weight(layer) / step).round().abs().detach().numpy()
        assert numbers.max() == 127
        assert any(np.array_equal(np.abs(other.astype(int)), numbers) for other in stored if other.shape == numbers.shape)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    outputs = onnxruntime.InferenceSession(tmp_path / 'int8.onnx', options).run(None, dict(inputs=exported[2]))
    for a, b in zip(outputs, expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(a).double(), b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('engine', ENGINES)
def test_the_first_convolution_in_integers(exported, engine, tmp_path):
    """It has the pixels' 256 steps, and with a picture of such steps the network's spikes for rounded weights."""
    path, module, image = exported
    model, pixels = ir.load(path), Pixels.between(-2.12, 2.64)
    weights = quantize(model, engine, pixels=pixels)
    ir.save(model, tmp_path / 'int8.onnx')
    assert any('stem' in name for name in weights) and len([name for name in weights if name.endswith('weight')]) == 8
    stored = [v.const_value.numpy().dtype for v in model.graph.initializers.values() if v.const_value.size > 100]
    assert set(stored) <= {np.dtype(np.int8), np.dtype(np.uint8)}
    if engine in installed_engines():
        check = check_engine(tmp_path / 'int8.onnx', with_weights(module, weights), pixels.rounded(image), engine)
        assert check.same, str(check)


def test_steps_of_pixels():
    pixels = Pixels.between(-2.12, 2.64)
    image = np.linspace(-3, 3, 601, dtype=np.float32)
    rounded = pixels.rounded(image)
    inside = (image > -2.12) & (image < 2.64)
    assert np.abs(rounded - image)[inside].max() <= 0.5001 * (2.12 + 2.64) / 255
    assert len(np.unique(rounded)) == 256 and pixels.rounded(np.zeros(1))[0] == 0  # what is padded stays 0
    assert (pixels.rounded(rounded) == rounded).all()
    assert Pixels.between(0.5, 63.75) == Pixels(0.25, 0)


@pytest.mark.parametrize('axis', [0, 1])
@pytest.mark.parametrize('shape', [(6, 5, 3, 3), (7, 9)])
def test_corrected_weights_keep_the_sums_of_channels(shape, axis):
    weight = np.random.default_rng(0).uniform(-1, 1, shape)
    numbers, _ = quantize_weight(weight, axis)
    scale = np.abs(np.moveaxis(weight, axis, 0).reshape(shape[axis], -1)).max(1) / 127  # of which no weight is cut off
    by_channel = scale.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    numbers = (weight / by_channel).round().astype(np.int8)
    other = keep_sums(weight, numbers, scale, axis)
    rest = tuple(i for i in range(len(shape)) if i != axis)
    before, after = (np.abs((n - weight / by_channel).sum(rest)) for n in (numbers, other))
    assert before.max() > 0.6 and after.max() <= 0.5001
    assert np.abs(other.astype(int) - numbers).max() == 1 and np.abs(other - weight / by_channel).max() < 1


def test_another_network_is_reported(exported):
    path, module, image = exported
    name = next(
        n for n, p in module.named_parameters() if n.endswith('conv1.conv.conv.weight') or n.endswith('conv1.conv.weight')
    )
    other = with_weights(module, {name: dict(module.named_parameters())[name].detach().numpy() * 1.02})
    check = check_engine(path, other, image, 'onnxruntime')
    assert not check.same and check.spikes.first and 'it computes the network differently' in str(check)
    first = check.spikes.layers[check.spikes.first]
    first.flipped = 1
    assert check.same  # rounding
    with pytest.raises(ValueError, match=r'nothing.weight \[1\]: the exported module has no such parameter'):
        with_weights(module, {'nothing.weight': np.zeros(1, np.float32)})


@pytest.mark.skipif('onnxruntime' not in installed_engines(), reason='onnxruntime is not installed')
def test_a_setting_that_mends_is_found(exported, tmp_path):
    """onnxruntime's optimisations round the biases of a file in OpenVINO's form."""
    path, module, image = exported
    model = ir.load(path)
    reference = with_weights(module, quantize(model, 'openvino'))
    ir.save(model, tmp_path / 'int8.onnx')
    assert not check_engine(tmp_path / 'int8.onnx', reference, image, 'onnxruntime').same
    text = mended(tmp_path / 'int8.onnx', reference, image, 'onnxruntime')
    assert text.startswith('set SessionOptions.graph_optimization_level to ORT_DISABLE_ALL, with which 0 of ')
    assert mended(path, reference, image, 'onnxruntime').startswith('another engine; with SessionOptions')


def test_a_default_that_flips_spikes_is_told(monkeypatch):
    """Where OpenVINO computes in bfloat16 unless it is told otherwise, and spikes flip."""
    flipped, precisions = [25], dict(openvino='bfloat16')

    def check(path, module, inputs, engine, precision):
        layers = dict(neuron=Flips('neuron', 1000, 200, flipped[0]))
        return EngineCheck(engine, '2026.4.1', precision, FlipReport(layers, batches=1))

    monkeypatch.setattr(engine_check, 'check_engine', check)
    monkeypatch.setattr(engine_check, 'default_precision', precisions.get)
    monkeypatch.setattr(engine_check, 'installed_engines', lambda: [*precisions])
    text = bfloat16_warning('', nn.Identity(), np.zeros(1))
    assert text.startswith(
        "openvino flips 2.5% of the spikes in bfloat16, its default on this CPU: set INFERENCE_PRECISION_HINT to 'f32'"
    )
    flipped[0] = 0
    assert bfloat16_warning('', nn.Identity(), np.zeros(1)) is None
    flipped[0], precisions['openvino'] = 25, 'float32'
    assert bfloat16_warning('', nn.Identity(), np.zeros(1)) is None


def test_a_file_is_tapped_at_every_neuron(exported):
    path, module, _ = exported
    neurons = [name for name, m in module.named_modules() if type(m).__module__ == 'mmspike.deploy.plain']
    assert sorted(tapped(path)[1]) == sorted(neurons) and len(neurons) == 8


def test_a_network_without_spikes_is_refused():
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in 'xy']
    weight = numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float32), 'w')
    graph = helper.make_graph([helper.make_node('Conv', ['x', 'w'], ['y'])], 'ann', ends[:1], ends[1:], [weight])
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid('', 20)]))
    with pytest.raises(ValueError, match='nothing in the network reads counts of spikes'):
        quantize(model, 'openvino')


def test_weights_are_rounded_by_channel():
    weight = np.random.default_rng(0).standard_normal((5, 4, 3, 3)) * np.array([1, 10, 0.1, 0, 3]).reshape(5, 1, 1, 1)
    for axis in (0, 1):
        numbers, scale = quantize_weight(weight, axis)
        shape = [-1 if i == axis else 1 for i in range(4)]
        rounded = numbers * scale.reshape(shape)
        coarse = np.abs(weight).max(tuple(i for i in range(4) if i != axis)) / 127
        assert numbers.dtype == np.int8 and numbers.min() >= -127
        assert (scale[coarse > 0] <= coarse[coarse > 0] * 1.0001).all()
        plainly = (weight / np.where(coarse > 0, coarse, 1).reshape(shape)).round() * coarse.reshape(shape)
        assert ((rounded - weight) ** 2).sum() <= ((plainly - weight) ** 2).sum() * 1.0001


def test_whole_numbers_stay():
    ones = np.ones((4, 1, 3, 3), np.float32)
    numbers, scale = quantize_weight(ones, 0)
    assert (numbers == 1).all() and (scale == 1).all() and numbers.dtype == np.int8


@pytest.mark.parametrize('thresholds', [[3, 7, 12, 16], [56, 167, 278, 388], [5, 12, 21, 28], [1], [1, 2, 3, 4]])
def test_a_factor_counts_thresholds(thresholds):
    neuron = ThresholdSFA(torch.tensor(thresholds, dtype=torch.float32))
    y = torch.arange(thresholds[-1] + 10.0).view(1, -1)
    assert scale_of(neuron.thresholds) is not None
    assert PlainThresholds(neuron)(y).equal(neuron(y))


def test_thresholds_without_a_factor_stay():
    neuron = ThresholdSFA(torch.tensor([1.0, 5.0, 100.0]))
    assert scale_of(neuron.thresholds) is None
    y = torch.arange(110.0).view(1, -1)
    assert PlainThresholds(neuron)(y).equal(neuron(y))
