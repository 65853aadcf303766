"""Reads files in one runtime, in an environment of its own; tools/dev/runtimes.py calls it. Needs numpy and the runtime.

    python runtime_readers.py READER FILE...

Beside every file lies its input, FILE.npy. Writes FILE.npz: all outputs in order and ``seconds``, the CPU time of a run on one
thread, of alone_FILE where there is one; or ``error``, the class of the exception with which the runtime refuses the file.
Runtimes that have no option for threads read their number from the environment, which runtimes.py sets.
"""

import contextlib
import io
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np

RUNS = 5
Run = Callable[[], list[np.ndarray]]


def onnxruntime(path: str, x: np.ndarray) -> Run:
    options = import_module('onnxruntime').SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = import_module('onnxruntime').InferenceSession(path, options, providers=['CPUExecutionProvider'])
    return lambda: session.run(None, {session.get_inputs()[0].name: x})


def openvino(path: str, x: np.ndarray, config: dict | None = None) -> Run:
    core = import_module('openvino').Core()
    compiled = core.compile_model(core.read_model(path), 'CPU', dict(config or {}, INFERENCE_NUM_THREADS=1))
    return lambda: list(compiled([x]).values())


def openvino_float32(path: str, x: np.ndarray) -> Run:
    return openvino(path, x, {'INFERENCE_PRECISION_HINT': 'f32'})


def openvino_accurate(path: str, x: np.ndarray) -> Run:
    return openvino(path, x, {'EXECUTION_MODE_HINT': 'ACCURACY'})


def openvino_saved(path: str, x: np.ndarray, **options: bool) -> Run:
    """The file saved as OpenVINO's own, by its defaults, and computed in float32."""
    ov = import_module('openvino')
    saved = f'{path}.xml'
    ov.save_model(ov.Core().read_model(path), saved, **options)
    return openvino_float32(saved, x)


def openvino_saved_whole(path: str, x: np.ndarray) -> Run:
    return openvino_saved(path, x, compress_to_fp16=False)


def tract(path: str, x: np.ndarray) -> Run:
    network = import_module('tract').onnx().load(path).into_model().into_runnable()
    return lambda: [out.to_numpy() for out in network.run([x])]


def tvm(path: str, x: np.ndarray) -> Run:
    tvm, relax = import_module('tvm'), import_module('tvm.relax')
    module = import_module('tvm.relax.frontend.onnx').from_onnx(import_module('onnx').load(path))
    machine = relax.VirtualMachine(tvm.compile(relax.transform.LegalizeOps()(module), target='llvm'), tvm.cpu())

    def run() -> list[np.ndarray]:
        out = machine['main'](tvm.runtime.tensor(x))
        return [out.numpy()] if hasattr(out, 'numpy') else [o.numpy() for o in out]

    return run


def mnn(path: str, x: np.ndarray) -> Run:
    MNN, onnx = import_module('MNN'), import_module('onnx')
    model = onnx.load(path)
    # what mnnconvert calls; that one installs a package by whatever pip is there, and reports its use to MNN's makers
    converter = [sys.executable, '-c', 'import sys, _tools; _tools.mnnconvert(sys.argv)', '-f', 'ONNX', '--modelFile', path]
    subprocess.run([*converter, '--bizCode', 'spikes', '--MNNModel', f'{path}.mnn'], check=True, capture_output=True)
    names = [o.name for o in model.graph.output]
    network = MNN.nn.load_module_from_file(f'{path}.mnn', [model.graph.input[0].name], names)
    value = MNN.expr.const(x, list(x.shape), MNN.expr.NCHW)

    def run() -> list[np.ndarray]:
        outs = (MNN.expr.convert(out, MNN.expr.NCHW) for out in network.forward([value]))
        return [np.array(out.read()).reshape(out.shape) for out in outs]

    return run


def _steps(importer: Callable, path: str, x: np.ndarray) -> Run:
    """A NIR file step by step, x [T, B, …], from rest in the first run: some keep their membranes."""
    torch = import_module('torch')
    with contextlib.redirect_stdout(io.StringIO()):  # snntorch prints every parameter
        network = importer(import_module('nir').read(path))
    frames = torch.from_numpy(x)

    def run() -> list[np.ndarray]:
        state, outs = None, []
        with torch.no_grad():
            for frame in frames:
                result = network(frame) if state is None else network(frame, state)
                out, state = result if isinstance(result, tuple) else (result, None)
                outs.append(out[0] if isinstance(out, tuple) else out)
        return [torch.stack(outs).numpy()]

    return run


def norse(path: str, x: np.ndarray, **dt: float) -> Run:
    return _steps(lambda graph: import_module('norse.torch').from_nir(graph, **dt), path, x)


def norse_dt(path: str, x: np.ndarray) -> Run:
    return norse(path, x, dt=1e-4)


def snntorch(path: str, x: np.ndarray) -> Run:
    return _steps(import_module('snntorch.import_nir').import_from_nir, path, x)


def spikingjelly(path: str, x: np.ndarray) -> Run:
    return _steps(import_module('spikingjelly.activation_based.nir_exchange').import_from_nir, path, x)


def sinabs(path: str, x: np.ndarray) -> Run:
    network = import_module('sinabs.nir').from_nir(import_module('nir').read(path), batch_size=x.shape[1])
    frames = import_module('torch').from_numpy(x).transpose(0, 1).flatten(0, 1)

    def run() -> list[np.ndarray]:
        out = network(frames)
        out = out[0] if isinstance(out, tuple) else out
        return [out.detach().unflatten(0, x.shape[1::-1]).transpose(0, 1).numpy()]

    return run


def rockpool(path: str, x: np.ndarray) -> Run:
    network = import_module('rockpool.nn.modules.torch.nir').from_nir(import_module('nir').read(path))
    frames = import_module('torch').from_numpy(x).transpose(0, 1)
    return lambda: [network(frames)[0].detach().transpose(0, 1).numpy()]


def read(reader: Callable[[str, np.ndarray], Run], path: str) -> None:
    """Write FILE.npz."""
    x, alone = np.load(f'{path}.npy'), Path(path).with_name(f'alone_{Path(path).name}')
    try:
        found = reader(path, x)()
        run = reader(str(alone) if alone.exists() else path, x)
        times = []
        for _ in range(RUNS):
            start = time.process_time()
            run()
            times.append(time.process_time() - start)
    except Exception as error:  # whatever a runtime raises is what it has to say of the file
        print(f'{path}: {type(error).__name__}: {error}', file=sys.stderr)
        np.savez(f'{path}.npz', error=type(error).__name__)
        return
    np.savez(f'{path}.npz', *found, seconds=min(times))


if __name__ == '__main__':
    warnings.filterwarnings('ignore')
    for file in sys.argv[2:]:
        read(globals()[sys.argv[1]], file)
