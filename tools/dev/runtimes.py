"""Reads files of small networks in every runtime of docs/runtimes.md, and writes the tables of that page.

Each runtime is pinned and has an environment of its own in --folder, which sees the packages of this one. Without --write the
tables are printed, and it leaves with 1 if docs/runtimes.md says otherwise, times apart.
"""

import argparse
import os
import re
import subprocess
import sys
import time
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
OWN = 'OpenVINO, saved as its own file'
F32 = "`INFERENCE_PRECISION_HINT='f32'`"
NORSE = ('norse==1.1.0', 'nirtorch==2.6', 'nir==1.0.8')
ONNX = [
    Row('onnxruntime', 'onnxruntime', ('onnxruntime==1.31.1',)),
    Row('OpenVINO', 'openvino', OPENVINO),
    Row('OpenVINO', 'openvino_float32', OPENVINO, F32),
    Row('OpenVINO', 'openvino_accurate', OPENVINO, "`EXECUTION_MODE_HINT='ACCURACY'`"),
    Row(OWN, 'openvino_saved', OPENVINO, F32),
    Row(OWN, 'openvino_saved_whole', OPENVINO, f'{F32}, `save_model(…, compress_to_fp16=False)`'),
    Row('tract', 'tract', ('tract==0.23.9',)),
    Row('TVM', 'tvm', ('apache-tvm==0.27.0.post1', 'onnx==1.23.2')),
    Row('MNN', 'mnn', ('MNN==3.6.1', 'onnx==1.23.2')),
]
NIR = [
    Row('norse', 'norse', NORSE),
    Row('norse', 'norse_dt', NORSE, '`from_nir(graph, dt=1e-4)`'),
    Row('snntorch', 'snntorch', ('snntorch==1.0.0', 'nirtorch==2.6', 'nir==1.0.8')),
    Row('spikingjelly', 'spikingjelly', ('spikingjelly==2.0.0', 'nirtorch==2.6', 'nir==1.0.8')),
    Row('sinabs', 'sinabs', ('sinabs==3.1.3',)),
    Row('rockpool', 'rockpool', ('rockpool==3.1.0', 'nirtorch==2.6', 'nir==1.0.8')),
]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--folder', type=Path, default=Path('work_dirs/runtimes'), help='environments and files (default: %(default)s)'
    )
    parser.add_argument(
        '--only', nargs='+', metavar='RUNTIME', help='these alone, such as tract norse; nothing is compared then'
    )
    parser.add_argument('--write', action='store_true', help='write the tables into docs/runtimes.md')
    args = parser.parse_args()
    names = {name_of(row) for row in ONNX + NIR}
    unknown = [name for name in args.only or () if name.lower() not in names]
    if unknown:
        parser.error(f'--only {" ".join(unknown)}: the runtimes are {", ".join(sorted(names))}')
    return args


def name_of(row: Row) -> str:
    return re.split(r'\W', row.name)[0].lower()


def environment(row: Row, folder: Path) -> Path:
    """The Python of a runtime's environment, made if it is not there."""
    home = folder / 'environments' / re.sub(r'\W', '_', ' '.join(row.packages))
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
    from mmspike.registry import MODELS

    def stack(neuron: dict, groups: int = 1) -> nn.Module:
        """Three layers of neurons; the output are spikes."""
        norm = dict(type='BN')
        convs = [
            SpikingConv(8, 8, 3, groups=groups, neuron=neuron, norm_cfg=norm),
            SpikingConv(8, 4, neuron=neuron, norm_cfg=norm),
        ]
        return nn.Sequential(ConvNorm(3, 8, 3, 2), *convs, MODELS.build(neuron))

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
    """A file, beside which its input lies, and what PyTorch computes.

    Attributes:
        expected: Outputs; of ONNX what all neurons send.
        spikes: Whether they are counts, which differ by whole numbers.
        seconds: CPU time of the folded network in PyTorch.
    """

    name: str
    file: Path
    expected: list
    spikes: bool
    seconds: float


def cpu_seconds(network: Any, x: Any) -> float:
    """The least CPU time of five runs in PyTorch on one thread."""
    import torch

    torch.set_num_threads(1)
    times = []
    with torch.inference_mode():
        network(x)
        for _ in range(5):
            start = time.process_time()
            network(x)
            times.append(time.process_time() - start)
    return min(times)


def onnx_cases(folder: Path) -> Iterator[Case]:
    import numpy as np
    import torch
    from torch import nn

    from mmspike.deploy import fuse
    from mmspike.deploy.engine_check import spikes_in_pytorch, tapped
    from mmspike.deploy.onnx_export import export_onnx
    from mmspike.deploy.plain import plain
    from mmspike.deploy.whole import Calls

    for i, (name, (network, shape)) in enumerate(onnx_networks().items()):
        network = fuse(firing(network))
        file = folder / f'{i}.onnx'
        export_onnx(network, shape, folder / f'alone_{file.name}')  # outputs in the middle would part what an engine fuses
        content, taps = tapped(folder / f'alone_{file.name}')
        file.write_bytes(content)
        x = torch.randn(shape)
        np.save(f'{file}.npy', x.numpy())
        spikes = spikes_in_pytorch(Calls(plain(network), nn.Module.__call__).eval(), list(taps), x.numpy())
        yield Case(name, file, [spikes[n] for n in taps], True, cpu_seconds(network, x))


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
        file = folder / f'{i}.nir'
        np.save(f'{file}.npy', x.numpy())
        export_nir(network, (3, 32, 32), file)
        with torch.no_grad():
            out = network(x)
        yield Case(name, file, [(out[-1] if isinstance(out, tuple) else out).numpy()], False, cpu_seconds(network, x))


def read(row: Row, cases: list[Case], folder: Path) -> list[tuple[str, float | None]]:
    """What a runtime makes of each file: the share that differs, or why not; and its CPU time in relation to PyTorch's."""
    for case in cases:
        Path(f'{case.file}.npz').unlink(missing_ok=True)
    command = [str(environment(row, folder)), str(READERS), row.reader, *(str(case.file) for case in cases)]
    one_thread = dict.fromkeys(('OMP_NUM_THREADS', 'TVM_NUM_THREADS'), '1')
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | one_thread)
    print(done.stderr, end='', file=sys.stderr)
    return [verdict(case, done.returncode) for case in cases]


def verdict(case: Case, status: int) -> tuple[str, float | None]:
    import numpy as np

    file = Path(f'{case.file}.npz')
    if not file.exists():
        return f'stopped ({status})', None
    with np.load(file) as found:
        if 'error' in found:
            return f'refused ({found["error"]})', None
        arrays = [found[name] for name in found.files if name != 'seconds'][-len(case.expected) :]
        seconds = float(found['seconds'])
    if [a.size for a in arrays] != [e.size for e in case.expected]:
        return 'other outputs', None
    tolerance = 0.1 if case.spikes else 1e-4
    pairs = [(a.reshape(e.shape), e) for a, e in zip(arrays, case.expected, strict=True)]
    differ = sum(int((~(np.abs(a - e) <= tolerance)).sum()) for a, e in pairs)  # so that nan differs
    share = differ / sum(e.size for e in case.expected)
    return f'{share:.2%} differ' if differ else 'same', seconds / case.seconds


def write_rows(page: str, kind: str, lines: list[str]) -> str:
    """The page with a table's head and those of its rows that ``lines`` have; it keeps the other rows of its runtimes."""
    rows = ONNX if kind == 'ONNX' else NIR
    begin, end = f'<!-- {kind}, by tools/dev/runtimes.py -->\n', '<!-- end -->'
    start = page.index(begin) + len(begin)
    stop = page.index(end, start)
    known = {key_of(line): line for line in [*page[start:stop].splitlines()[2:], *lines[2:]]}
    keys = [(row.name, row.settings) for row in rows]
    return page[:start] + '\n'.join([*lines[:2], *(known[key] for key in keys if key in known)]) + '\n' + page[stop:]


def key_of(line: str) -> tuple[str, str]:
    """Runtime and settings of a row."""
    name, _, settings = (cell.strip() for cell in line.strip('|').split('|')[:3])
    return name, settings


def tables(args: argparse.Namespace) -> Iterator[tuple[str, list[str]]]:
    """Each kind and the lines of its table."""
    import torch

    for kind, rows, make in (('ONNX', ONNX, onnx_cases), ('NIR', NIR, nir_cases)):
        rows = [row for row in rows if not args.only or name_of(row) in map(str.lower, args.only)]
        if not rows:
            continue
        torch.manual_seed(0)
        cases = list(make(args.folder))
        head = ['runtime', 'version', 'set', *[case.name for case in cases], 'CPU time']
        lines = [f'| {" | ".join(head)} |', f'|{"---|" * len(head)}']
        print('\n'.join(lines), flush=True)
        for row in rows:
            found = read(row, cases, args.folder)
            times = [relative for _, relative in found if relative is not None]
            span = f'{min(times):.1f} to {max(times):.1f} x' if times else ''
            cells = [row.name, row.packages[0].split('==')[1], row.settings, *[text for text, _ in found], span]
            lines.append(f'| {" | ".join(cells)} |')
            print(lines[-1], flush=True)
        yield kind, lines


def without_times(page: str) -> str:
    return re.sub(r'[\d.]+ to [\d.]+ x', '', page)


def main(args: argparse.Namespace) -> None:
    args.folder.mkdir(parents=True, exist_ok=True)
    args.folder = args.folder.resolve()
    old = page = PAGE.read_text(encoding='utf-8')
    for kind, lines in tables(args):
        page = write_rows(page, kind, lines)
        if args.write:
            PAGE.write_text(page, encoding='utf-8')
    if not args.write and without_times(page) != without_times(old):
        raise UserError(f'{PAGE} says otherwise; --write writes what was seen')


if __name__ == '__main__':
    run(parse_args, main)
