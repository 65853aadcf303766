"""ONNX files in engines: sizes, operators and versions that do not fit are named."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from onnx import TensorProto, helper

from mmspike.deploy import engines
from mmspike.deploy.engines import open_session, require_engine
from mmspike.utils.errors import UserError

EVERY = [
    pytest.param(e, marks=pytest.mark.skipif(e not in engines.installed_engines(), reason=f'{e} is not installed'))
    for e in engines.ENGINES
]


def named_twice():
    """The content of a file whose output ``masks`` is that of a convolution, through an Identity."""
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ['batch', 1, 2, 2]) for n in ('inputs', 'masks'))
    weight = helper.make_tensor('w', TensorProto.FLOAT, [1, 1, 1, 1], [2.0])
    nodes = [helper.make_node('Conv', ['inputs', 'w'], ['conv2d_2']), helper.make_node('Identity', ['conv2d_2'], ['masks'])]
    graph = helper.make_graph(nodes, 'named_twice', [x], [y], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', 20)], ir_version=10).SerializeToString()


class FakePort:
    """A port of OpenVINO's, whose any name is the first of the alphabet, as 2026.4.1 gives it."""

    def __init__(self, *names):
        self.names = names

    def get_any_name(self):
        return min(self.names)

    def get_partial_shape(self):
        return [SimpleNamespace(is_static=True, get_length=lambda n=n: n) for n in (1, 1, 2, 2)]

    def get_element_type(self):
        return SimpleNamespace(to_dtype=lambda: np.dtype(np.float32))


class FakeCompiled:
    """What OpenVINO 2026.4.1 compiles of :func:`named_twice`: Identity is left out, and its output has both names."""

    inputs, outputs = [FakePort('inputs')], [FakePort('conv2d_2', 'masks')]

    def __call__(self, inputs):
        return {port: 2 * inputs['inputs'] for port in self.outputs}


def one_operation(name, domain=''):
    """The content of a file that applies one operation to x [batch, 4]."""
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ['batch', 4]) for n in 'xy')
    graph = helper.make_graph([helper.make_node(name, ['x'], ['y'], domain=domain)], name, [x], [y])
    opsets = [helper.make_opsetid('', 20), helper.make_opsetid('mine', 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


@pytest.mark.parametrize('engine', EVERY)
def test_halves_are_rounded_to_even_for_any_batch(engine):
    session = open_session(one_operation('Round'), engine, threads=1)
    assert (session.engine, session.inputs, session.outputs) == (engine, {'x': (None, 4)}, ('y',))
    out = session(np.array([[0.5, 1.5, 2.5, -0.5], [3.4, 3.6, 0, 1]]))
    assert out['y'].tolist() == [[0, 2, 2, 0], [3, 4, 0, 1]]


@pytest.mark.parametrize('engine', [*EVERY, 'fake openvino'])
def test_outputs_go_by_the_names_of_the_file(engine, monkeypatch):
    """Not by that of a tensor within, which OpenVINO's compiled model may have for them."""
    if engine == 'fake openvino':
        network = SimpleNamespace(inputs=[FakePort('inputs')], outputs=[FakePort('masks')])
        core = SimpleNamespace(read_model=lambda content: network, compile_model=lambda *args: FakeCompiled())
        monkeypatch.setitem(sys.modules, 'openvino', SimpleNamespace(Core=lambda: core))
        monkeypatch.setattr(engines, 'engine_version', dict(openvino='2026.4.1').get)
    session = open_session(named_twice(), engine.removeprefix('fake '))
    assert session.outputs == ('masks',)
    out = session(np.ones((1, 1, 2, 2)))
    assert list(out) == ['masks'] and (out['masks'] == 2).all()


@pytest.mark.skipif('openvino' not in engines.installed_engines(), reason='openvino is not installed')
def test_default_precision_is_that_of_a_file_without_settings():
    import openvino

    core = openvino.Core()
    default = core.compile_model(core.read_model(one_operation('Round')), 'CPU').get_property('INFERENCE_PRECISION_HINT')
    assert engines.default_precision('openvino') == dict(bf16='bfloat16', f32='float32')[default.get_type_name()]


@pytest.mark.parametrize('engine', EVERY)
def test_an_input_of_another_size_or_name_is_named(engine):
    session = open_session(one_operation('Round'), engine)
    with pytest.raises(UserError, match=r'x of shape \[2, 5\]: the file takes \[any, 4\]'):
        session(np.ones((2, 5)))
    with pytest.raises(UserError, match=r"inputs \['z'\]: the file takes \['x'\]"):
        session({'z': np.ones((2, 4))})


@pytest.mark.parametrize('engine', EVERY)
def test_an_operator_that_the_engine_lacks_is_named(engine):
    with pytest.raises(UserError, match=rf'^{engine} \d+\.\S+ cannot run the file: .*mine.Unknown'):
        open_session(one_operation('Unknown', 'mine'), engine)


def test_an_engine_that_is_unknown_missing_or_old_is_named(monkeypatch, tmp_path):
    with pytest.raises(UserError, match=r"engine 'ncnn': mmspike opens ONNX files in onnxruntime, openvino"):
        require_engine('ncnn')
    with pytest.raises(UserError, match=r'nothing\.onnx: there is no such file'):
        open_session(tmp_path / 'nothing.onnx')
    monkeypatch.setattr(engines, 'engine_version', dict(onnxruntime='1.9.2').get)
    assert engines.installed_engines() == []
    with pytest.raises(UserError, match=r"openvino is not installed: pip install 'openvino>=2026.4'"):
        open_session(one_operation('Round'), 'openvino')
    with pytest.raises(UserError, match=r'onnxruntime 1.9.2 is installed, and 1.31 is the first version'):
        open_session(one_operation('Round'), 'onnxruntime')
