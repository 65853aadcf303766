"""ONNX files in the engines that run them, with the settings under which they compute the spikes that the file means."""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.utils import digit_version

from mmspike.utils.errors import UserError

#: engine, which is also the name of its package -> the lowest version of which the spikes have been compared
ENGINES = {'onnxruntime': '1.31', 'openvino': '2026.4'}
#: engine -> the setting with which it computes a graph as it is written, for :func:`open_session` with ``as_written``
AS_WRITTEN = {
    'onnxruntime': 'SessionOptions.graph_optimization_level to ORT_DISABLE_ALL',
    'openvino': "EXECUTION_MODE_HINT to 'ACCURACY'",
}

Shape = tuple[int | None, ...]


def engine_version(engine: str) -> str | None:
    """The installed version of an engine; None where it is not installed."""
    try:
        return version(engine)
    except PackageNotFoundError:
        return None


def installed_engines() -> list[str]:
    """The engines that are installed, in versions that :func:`open_session` takes."""
    found = {engine: engine_version(engine) for engine in ENGINES}
    return [e for e, v in found.items() if v is not None and digit_version(v) >= digit_version(ENGINES[e])]


def require_engine(engine: str) -> None:
    """Raise UserError if an engine is unknown, not installed, or older than those whose spikes have been compared."""
    if engine not in ENGINES:
        raise UserError(f'engine {engine!r}: mmspike opens ONNX files in {", ".join(ENGINES)}')
    found, lowest = engine_version(engine), ENGINES[engine]
    if found is None:
        raise UserError(f"{engine} is not installed: pip install '{engine}>={lowest}'")
    if digit_version(found) < digit_version(lowest):
        raise UserError(
            f'{engine} {found} is installed, and {lowest} is the first version whose spikes have been compared: '
            f"pip install '{engine}>={lowest}'"
        )


def default_precision(engine: str) -> str:
    """In what an engine computes a float32 file on this CPU unless it is told otherwise: 'float32' or 'bfloat16'."""
    require_engine(engine)
    if engine != 'openvino':
        return 'float32'
    import openvino

    precision = openvino.Core().get_property('CPU', 'INFERENCE_PRECISION_HINT')
    return 'bfloat16' if precision == openvino.Type.bf16 else 'float32'


class Session:
    """An ONNX file that is ready to run. :func:`open_session` makes it.

    Attributes:
        engine, version: What runs it.
        inputs: Name -> shape of each input; None where a dimension is free.
        outputs: Names of the outputs, in order.
    """

    inputs: dict[str, Shape]
    outputs: tuple[str, ...]
    types: dict[str, type]

    def __init__(self, engine: str) -> None:
        self.engine, self.version = engine, engine_version(engine)

    def __call__(self, inputs: np.ndarray | Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Name -> output for one input, or for several by name.

        Raises:
            UserError: A name, or a size that is fixed in the file, is another one.
        """
        given = dict(inputs) if isinstance(inputs, Mapping) else {next(iter(self.inputs)): inputs}
        if given.keys() != self.inputs.keys():
            raise UserError(f'inputs {sorted(given)}: the file takes {sorted(self.inputs)}')
        for name, shape in self.inputs.items():
            got = np.shape(given[name])
            if len(got) != len(shape) or any(s not in (None, g) for s, g in zip(shape, got, strict=True)):
                takes = ', '.join('any' if s is None else str(s) for s in shape)
                raise UserError(
                    f'{name} of shape {list(got)}: the file takes [{takes}]. Resize the image, or export for its size'
                )
        return self._run({n: np.ascontiguousarray(x, self.types[n]) for n, x in given.items()})

    def _run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        raise NotImplementedError


class _OnnxRuntime(Session):
    def __init__(self, model: str | bytes, threads: int | None, precision: str, batch: int | None, as_written: bool) -> None:
        import onnxruntime

        super().__init__('onnxruntime')
        if precision != 'float32':
            raise UserError(
                f"precision {precision!r}: onnxruntime computes a file in the precision it was written in, 'float32'"
            )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if as_written:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        if threads is not None:
            options.intra_op_num_threads = options.inter_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(model, options, providers=['CPUExecutionProvider'])
        numbers = {
            'tensor(float)': np.float32,
            'tensor(double)': np.float64,
            'tensor(uint8)': np.uint8,
            'tensor(int64)': np.int64,
        }
        found = self.session.get_inputs()
        self.inputs = {i.name: tuple(s if isinstance(s, int) else None for s in i.shape) for i in found}
        self.types = {i.name: numbers[i.type] for i in found}
        self.outputs = tuple(o.name for o in self.session.get_outputs())

    def _run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(self.outputs, self.session.run(None, inputs), strict=True))


class _OpenVINO(Session):
    def __init__(self, model: str | bytes, threads: int | None, precision: str, batch: int | None, as_written: bool) -> None:
        import openvino

        super().__init__('openvino')
        # left alone, it computes in bfloat16 where the CPU can, and spikes flip
        config: dict[str, Any] = {'INFERENCE_PRECISION_HINT': {'float32': 'f32', 'bfloat16': 'bf16'}[precision]}
        config |= {'PERFORMANCE_HINT': 'LATENCY', 'NUM_STREAMS': 1}
        if threads is not None:
            config['INFERENCE_NUM_THREADS'] = threads
        if as_written:
            config['EXECUTION_MODE_HINT'] = 'ACCURACY'
        core = openvino.Core()
        network = core.read_model(model)
        if batch is not None:  # shapes that are known save it a twentieth of the time
            network.reshape({port: _with_batch(port.get_partial_shape(), batch) for port in network.inputs})
        self.compiled = core.compile_model(network, 'CPU', config)
        self.inputs, self.types = {}, {}
        for port in self.compiled.inputs:
            name = port.get_any_name()
            self.inputs[name] = tuple(d.get_length() if d.is_static else None for d in port.get_partial_shape())
            self.types[name] = port.get_element_type().to_dtype().type
        # the file's names; a compiled output that is a tensor of the graph as well may go by that one's
        self.outputs = tuple(port.get_any_name() for port in network.outputs)

    def _run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(self.outputs, self.compiled(inputs).values(), strict=True))


def _with_batch(shape: Any, batch: int) -> Any:
    """An OpenVINO shape whose first free dimension, which is the batch, or the regions of a head, is ``batch``."""
    free = next((i for i, size in enumerate(shape) if not size.is_static), None)
    if free is not None:
        shape[free] = batch
    return shape


def open_session(
    path: str | Path | bytes,
    engine: str = 'onnxruntime',
    threads: int | None = None,
    precision: str = 'float32',
    batch: int | None = None,
    as_written: bool = False,
) -> Session:
    """An ONNX file in an engine, on the CPU, with settings that keep the spikes: OpenVINO computes in float32, not in bfloat16.

    Args:
        path: ONNX file, or its content.
        engine: A name of ``ENGINES``.
        threads: Threads that it may use, by default its own choice.
        precision: Of what is not integer: 'float32', or in OpenVINO 'bfloat16', quicker on some CPUs, which **flips spikes**.
        batch: Its size, if it is known: OpenVINO is quicker then, and takes no other. None: any.
        as_written: Without the engine's optimisations of the graph, or those that change numbers: slower.

    Raises:
        UserError: The engine is not installed, or cannot run the file, for example since it lacks an operator; it is named.

    Example:
        >>> import numpy as np, onnx
        >>> from onnx import TensorProto, helper
        >>> ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ['batch', 4]) for n in ('x', 'y')]
        >>> graph = helper.make_graph([helper.make_node('Round', ['x'], ['y'])], 'round', ends[:1], ends[1:])
        >>> opset = [helper.make_opsetid('', 20)]
        >>> session = open_session(helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString())
        >>> session.inputs
        {'x': (None, 4)}
        >>> session(np.array([[0.5, 1.5, 2.5, 3.0]]))
        {'y': array([[0., 2., 2., 3.]], dtype=float32)}
    """
    require_engine(engine)
    if isinstance(path, (str, Path)):
        if not Path(path).is_file():
            raise UserError(f'{path}: there is no such file')
        path = str(path)
    opened = dict(onnxruntime=_OnnxRuntime, openvino=_OpenVINO)[engine]
    try:
        return opened(path, threads, precision, batch, as_written)
    except UserError:
        raise
    except Exception as error:  # both engines have classes of their own, and OpenVINO's is RuntimeError
        name = path if isinstance(path, str) else 'the file'
        raise UserError(f'{engine} {engine_version(engine)} cannot run {name}: {_reason(error)}') from error


def _reason(error: Exception) -> str:
    """The text of an engine's error without the places in its own sources."""
    own = ('Exception from', 'Check ', 'FrontEnd API', 'To facilitate', 'Summary:')
    lines = [line.strip() for line in str(error).splitlines()]
    return ' '.join(line for line in lines if line and not line.startswith(own)) or type(error).__name__
