"""ONNX files in engines: sizes, operators and versions that do not fit are named."""

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
