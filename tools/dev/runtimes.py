"""Reads files of small networks in every runtime of docs/runtimes.md, pinned, each in an environment of its own, and writes its tables.

The environments lie in --folder and see the packages of this one; what is installed there is not installed again. Without --write the
tables are printed, and it leaves with 1 if docs/runtimes.md says otherwise, times apart.
"""

import argparse
import re
import subprocess
import sys
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's mmspike, installed or not

from mmspike.cli import run
from mmspike.utils.errors import UserError

PAGE = Path(__file__).resolve().parents[2] / 'docs' / 'runtimes.md'
READERS = Path(__file__).with_name('runtime_readers.py')
T, BATCH = 4, 2
LIF = dict(type='LIF', v_threshold=0.5)


@dataclass(frozen=True)
class Row:
    """A line of a table: how a runtime is called.

    Attributes:
        name: As the table says it.
        reader: Function of runtime_readers.py.
        packages: What is installed for it; the first is the runtime, of the version in the table.
        settings: What this line sets; '' is its defaults.
    """

    name: str
    reader: str
    packages: tuple[str, ...]
    settings: str = ''


OPENVINO = ('openvino==2026.4.1',)
ONNX = [
    Row('onnxruntime', 'onnxruntime', ('onnxruntime==1.31.1',)),
    Row('OpenVINO', 'openvino', OPENVINO),
    Row('OpenVINO', 'openvino_float32', OPENVINO, "`INFERENCE_PRECISION_HINT='f32'`"),
    Row('OpenVINO, saved as its own file', 'openvino_saved', OPENVINO, "`INFERENCE_PRECISION_HINT='f32'`"),
    Row('OpenVINO, saved as its own file', 'openvino_saved_whole', OPENVINO, 'the same, `save_model(…, compress_to_fp16=False)`'),
    Row('tract', 'tract', ('tract==0.23.9',)),
    Row('TVM', 'tvm', ('apache-tvm==0.27.0.post1', 'onnx')),
    Row('MNN', 'mnn', ('MNN==3.6.1', 'onnx')),
]
NIR = [
    Row('norse', 'norse', ('norse==1.1.0', 'nirtorch', 'nir')),
    Row('norse', 'norse_dt', ('norse==1.1.0', 'nirtorch', 'nir'), '`from_nir(graph, dt=1e-4)`'),
    Row('snntorch', 'snntorch', ('snntorch==1.0.0', 'nirtorch', 'nir')),
    Row('spikingjelly', 'spikingjelly', ('spikingjelly==2.0.0', 'nirtorch', 'nir')),
    Row('sinabs', 'sinabs', ('sinabs==3.1.3',)),
]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--folder', type=Path, default=Path('work_dirs/runtimes'), help='environments and files (default: %(default)s)')
    parser.add_argument('--only', nargs='+', metavar='RUNTIME', help='these alone, such as tract norse; nothing is written then')
    parser.add_argument('--write', action='store_true', help='write the tables into docs/runtimes.md')
    args = parser.parse_args()
    if args.only and args.write:
        parser.error('--write needs all runtimes')
    return args


def environment(row: Row, folder: Path) -> Path:
    """The Python of a runtime's environment, made if it is not there."""
    home = folder / 'environments' / re.sub(r'\W', '_', row.packages[0])
    python = home / 'bin' / 'python'
    if (home / 'complete').is_file():
        return python
    venv.create(home, with_pip=False, clear=True)
    (packages,) = home.glob('lib/python*/site-packages')
    (packages / 'base.pth').write_text('\n'.join(p for p in sys.path if p.endswith('-packages')), encoding='utf-8')
    pip = [sys.executable, '-m', 'pip', '--python', str(python), 'install', '--quiet', '--disable-pip-version-check']
    done = subprocess.run([*pip, *row.packages], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f'{" ".join(row.packages)} cannot be installed:\n{done.stderr}')
    (home / 'complete').touch()
    return python


def firing(network: Any) -> Any:
    """The network in evaluation mode, with norms behind which neurons fire."""
    import torch

    for m in network.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(m.weight, 0.5, 1.5)
            torch.nn.init.normal_(m.bias, 0.7, 0.5)
    return network.eval()


def onnx_networks() -> dict[str, tuple[Any, tuple[int, ...]]]:
    """Name -> network and the shape of its input."""
    from mmspike.models import ESpikeFormer, Spikformer

    arch = dict(dims=(16, 24, 32, 48), depths=(1, 1, 1, 1, 1))
    patches = dict(dims=(8, 16, 24, 32), depth=2, num_heads=4)
    return {
        'SFA, D = 4': (ESpikeFormer(arch, neuron=dict(type='SFA', levels=4)), (BATCH, 3, 64, 64)),
        f'LIF, T = {T}': (Spikformer(patches, T=T, in_channels=2, neuron=LIF), (T, BATCH, 2, 64, 64)),
    }


def nir_networks() -> dict[str, Any]:
    """Name -> network on inputs [T, B, 3, 32, 32]."""
    from torch import nn

    from mmspike.models import MetaSpikeFormer, SpikingVGG
    from mmspike.models.layers import ConvNorm, SpikingConv

    def stack(neuron: dict, groups: int = 1) -> nn.Module:
        norm = dict(type='BN')
        convs = [
            SpikingConv(8, 8, 3, groups=groups, neuron=neuron, norm_cfg=norm),
            SpikingConv(8, 4, neuron=neuron, norm_cfg=norm),
        ]
        return nn.Sequential(ConvNorm(3, 8, 3, 2), *convs)

    options: dict = dict(T=T, neuron=LIF, temporal_output='keep')
    arch = dict(dims=(8, 16, 32, 32), depths=(1, 1, 1, 1, 1))
    return {
        'LIF': stack(LIF),
        'PLIF': stack(dict(LIF, type='PLIF', tau=3.0)),
        'IF': stack(dict(LIF, type='IF')),
        'reset to -0.25': stack(dict(LIF, v_reset=-0.25)),
        'groups': stack(LIF, groups=4),
        'at the threshold': nn.Sequential(SpikingConv(3, 4, neuron=LIF)),
        'shortcuts': MetaSpikeFormer(arch, out_indices=(1,), **options),
        'average pools': SpikingVGG(dict(dims=(4, 6, 8), depths=(2, 1, 2)), **options),
    }


@dataclass
class Case:
    """A file with its input and what PyTorch computes: outputs, and of ONNX what all neurons send.

    Attributes:
        spikes: Whether ``expected`` are spikes, and not outputs.
    """

    name: str
    file: Path
    inputs: Path
    expected: list
    spikes: bool


def onnx_cases(folder: Path) -> Iterator[Case]:
    import numpy as np
    import torch

    from mmspike.deploy import fuse
    from mmspike.deploy.engine_check import spikes_in_pytorch, tapped
    from mmspike.deploy.onnx_export import export_onnx
    from mmspike.deploy.plain import plain

    for i, (name, (network, shape)) in enumerate(onnx_networks().items()):
        network = fuse(firing(network))
        file = folder / f'{i}.onnx'
        export_onnx(network, shape, file)
        content, taps = tapped(file)
        file.write_bytes(content)
        x = torch.randn(shape).numpy()
        np.save(folder / f'{i}.npy', x)
        traced = torch.nn.Module()
        traced.network = plain(network)
        traced.forward = lambda inputs, traced=traced: traced.network(inputs)
        spikes = spikes_in_pytorch(traced, list(taps), x)
        yield Case(name, file, folder / f'{i}.npy', [spikes[n] for n in taps], True)


def nir_cases(folder: Path) -> Iterator[Case]:
    import numpy as np
    import torch

    from mmspike.deploy import fuse
    from mmspike.deploy.nir_export import export_nir

    for i, (name, network) in enumerate(nir_networks().items()):
        network = fuse(firing(network))
        x = torch.randn(T, BATCH, 3, 32, 32)
        if name == 'at the threshold':
            x = torch.randint(0, 3, x.shape) / 2  # 1 makes the membrane 0.5 in one step
        np.save(folder / f'{i}_nir.npy', x.numpy())
        export_nir(network, (3, 32, 32), folder / f'{i}.nir')
        with torch.no_grad():
            out = network(x)
        yield Case(name, folder / f'{i}.nir', folder / f'{i}_nir.npy', [(out[-1] if isinstance(out, tuple) else out).numpy()], False)


def read(row: Row, case: Case, folder: Path) -> tuple[str, float | None]:
    """What a runtime makes of a file: the share that differs, or why not; and the CPU time of a run."""
    import numpy as np

    out = folder / 'out.npz'
    out.unlink(missing_ok=True)
    command = [str(environment(row, folder)), str(READERS), row.reader, str(case.file), str(case.inputs), str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.strip().splitlines() if re.match(r'[\w.]*(Error|Exception)\b', line)]
        return f'refused ({(lines or [f"exit status {done.returncode}"])[-1].split(":")[0]})', None
    found = np.load(out)
    arrays = [found[name] for name in found.files if name != 'seconds'][-len(case.expected) :]
    if [a.size for a in arrays] != [e.size for e in case.expected]:
        return 'refused (other outputs)', None
    differ = sum(int((np.abs(a.reshape(e.shape) - e) > (0.1 if case.spikes else 1e-4)).sum()) for a, e in zip(arrays, case.expected, strict=True))
    share = differ / sum(e.size for e in case.expected)
    return 'same' if not differ else f'{share:.2%} differ', float(found['seconds'])


def tables(args: argparse.Namespace) -> dict[str, list[str]]:
    """Kind -> lines of its table."""
    import torch

    written = {}
    for kind, rows, cases in (('ONNX', ONNX, onnx_cases), ('NIR', NIR, nir_cases)):
        rows = [row for row in rows if not args.only or re.split(r'\W', row.name)[0].lower() in map(str.lower, args.only)]
        if not rows:
            continue
        torch.manual_seed(0)
        files = list(cases(args.folder))
        times = kind == 'ONNX'
        head = ['runtime', 'version', 'set', *[case.name for case in files], *['CPU time'] * times]
        lines = [f'| {" | ".join(head)} |', f'|{"---|" * len(head)}']
        first: list[float] = []
        for row in rows:
            found = [read(row, case, args.folder) for case in files]
            cells = [row.name, row.packages[0].split('==')[1], row.settings, *[text for text, _ in found]]
            if times:
                seconds = [s for _, s in found if s is not None]
                first = first or seconds
                cells.append(' and '.join(f'{s / f:.1f} x' for s, f in zip(seconds, first, strict=False)))
            lines.append(f'| {" | ".join(cells)} |')
            print(lines[-1], flush=True)
        written[kind] = lines
    return written


def main(args: argparse.Namespace) -> None:
    args.folder.mkdir(parents=True, exist_ok=True)
    args.folder = args.folder.resolve()
    page = old = PAGE.read_text(encoding='utf-8')
    for kind, lines in tables(args).items():
        begin, end = f'<!-- {kind}, by tools/dev/runtimes.py -->\n', '<!-- end -->'
        start = page.index(begin) + len(begin)
        page = page[:start] + '\n'.join(lines) + '\n' + page[page.index(end, start) :]
    if args.write:
        PAGE.write_text(page, encoding='utf-8')
    elif not args.only and re.sub(r'\d+\.\d x', '', page) != re.sub(r'\d+\.\d x', '', old):
        raise UserError(f'{PAGE} says otherwise; --write writes what was seen')


if __name__ == '__main__':
    run(parse_args, main)
