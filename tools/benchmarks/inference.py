"""CPU time for an image on one thread: a spiking backbone in PyTorch, folded, and in engines as float32, bfloat16 and integers.

    python tools/benchmarks/inference.py --out DIR

Ordinary networks of timm stand beside it, in float32 and in calibrated int8. Everything runs in one process in turn, round by
round, and the least CPU time of the rounds counts. Weights are random: times of dense kernels do not depend on them. Writes
inference.md, inference.json and the ONNX files; those that are there already are measured as they are. OpenVINO is optional,
and named where it is missing.
"""

import argparse
import json
import logging
import platform
import sys
import warnings
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's mmspike, installed or not

from mmspike.cli import run

#: a photo behind the usual normalisation
IMAGENET = (-2.12, 2.64)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', required=True, type=Path, help='directory to write into')
    parser.add_argument(
        '--spiking',
        nargs='+',
        default=['ESpikeFormer:m', 'MetaSpikeFormer:15m'],
        metavar='TYPE:ARCH',
        help='registered backbones and their presets (default: ESpikeFormer:m MetaSpikeFormer:15m)',
    )
    parser.add_argument(
        '--keep-depthwise',
        action='store_true',
        help='fold without merging depthwise and pointwise convolutions, as deploy.py --keep-depthwise',
    )
    parser.add_argument('--T', type=int, help='time steps of all of them (default: its own of each)')
    parser.add_argument('--size', type=int, default=224, help='height and width of the image (default: 224)')
    parser.add_argument(
        '--against',
        nargs='*',
        default=['caformer_s18', 'resnet50'],
        help='networks of timm beside it (default: caformer_s18 resnet50)',
    )
    parser.add_argument('--rounds', type=int, default=10, help='(default: 10)')
    args = parser.parse_args()
    for spiking in args.spiking:
        if spiking.count(':') != 1:
            parser.error(f'--spiking {spiking}: expected TYPE:ARCH, such as ESpikeFormer:m')
    if args.rounds < 1:
        parser.error('--rounds: at least 1')
    return args


def spiking_backbone(spiking: str, T: int | None, size: int):
    """A backbone whose norms have seen noise, so that its neurons fire as in training."""
    import torch
    from torch.nn.modules.batchnorm import _BatchNorm

    from mmspike.registry import MODELS
    from mmspike.utils.errors import UserError

    cls, arch = spiking.split(':')
    steps = {} if T is None else dict(T=T)
    torch.manual_seed(0)
    try:
        model = MODELS.build(dict(type=f'mmspike.{cls}', arch=arch, out_indices=(-1,), **steps)).train()
    except (KeyError, ValueError) as error:  # another type or arch
        raise UserError(f'--spiking {spiking}: {error.args[0]}') from error
    for norm in (m for m in model.modules() if isinstance(m, _BatchNorm)):
        norm.momentum = None
    with torch.no_grad():
        model(torch.randn(4, model.in_channels, size, size))
    return model.eval()


def write_spiking(model, name: str, folder: Path, size: int, engines: list[str], pixels) -> dict[tuple[str, str], Path]:
    """(engine, precision) -> file of the folded backbone."""
    import onnx_ir as ir

    from mmspike.deploy.int8_graph import quantize
    from mmspike.deploy.onnx_export import export_onnx

    stem = f'{name}_t{model.T}_{size}px'
    floats = folder / f'{stem}_float32.onnx'
    if not floats.exists():
        export_onnx(model, (1, model.in_channels, size, size), floats)
    files = {}
    for engine in engines:
        files[engine, 'float32'] = floats
        for numbers, first in (('int8', None), ('int8, the first convolution, too', pixels)):
            file = folder / f'{stem}_int8{"_first" if first else ""}_{engine}.onnx'
            files[engine, numbers] = file
            if not file.exists():
                graph = ir.load(floats)
                quantize(graph, engine, pixels=first)
                ir.save(graph, file)
    return files


def write_ordinary(model, name: str, folder: Path, size: int, engines: list[str]) -> dict[tuple[str, str], Path]:
    """(engine, precision) -> file of a network of timm; int8 is calibrated on noise, by onnxruntime, for both engines."""
    import numpy as np
    import torch
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    floats, prepared, integers = (folder / f'{name}_{size}px_{kind}.onnx' for kind in ('float32', 'prepared', 'int8'))
    files = {(e, p): file for e in engines for p, file in (('float32', floats), ('int8', integers))}
    if floats.exists() and integers.exists():
        return files
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of the exporter about itself
        image = torch.randn(1, 3, size, size)
        torch.onnx.export(model, (image,), floats, dynamo=True, external_data=False, verbose=False, input_names=['inputs'])
    quant_pre_process(str(floats), str(prepared), skip_symbolic_shape=True)

    class Noise(quantization.CalibrationDataReader):
        generator = np.random.default_rng(0)
        left = 4

        def get_next(self):
            self.left -= 1
            image = self.generator.standard_normal((1, 3, size, size), np.float32)
            return dict(inputs=image) if self.left >= 0 else None

    logging.disable(logging.WARNING)  # of norms that have no channels to quantise
    try:
        quantization.quantize_static(str(prepared), str(integers), Noise(), per_channel=True)
    finally:
        logging.disable(logging.NOTSET)
    prepared.unlink()
    return files


def cases(args: argparse.Namespace) -> list[dict]:
    """Rows of the table, each with a function that runs it once, and the size of its file."""
    import torch

    from mmspike.deploy import fuse
    from mmspike.deploy.engines import installed_engines, open_session
    from mmspike.deploy.int8_graph import Pixels
    from mmspike.utils.errors import UserError

    engines = installed_engines()
    image = torch.randn(1, 3, args.size, args.size, generator=torch.Generator().manual_seed(0))
    pixels = Pixels.between(*IMAGENET)
    rows: list[dict] = []

    def in_pytorch(network: str, how: str, model) -> None:
        rows.append(dict(network=network, runtime='PyTorch', precision=how, run=partial(model, image), megabytes=None))

    def in_engines(network: str, files: dict[tuple[str, str], Path]) -> None:
        precisions = [(e, p, 'float32') for e, p in files] + [(e, 'float32', 'bfloat16') for e in engines if e == 'openvino']
        for engine, kind, precision in precisions:
            file = files[engine, kind]
            label = kind if precision == 'float32' else precision
            try:
                session = open_session(file, engine, 1, precision, batch=1)
            except UserError as error:
                print(f'{network}, {label}: {error}')
                continue
            row = dict(network=network, runtime=f'{engine} {session.version}', precision=label)
            rows.append(row | dict(run=partial(session, image.numpy()), megabytes=file.stat().st_size / 1e6))

    for spiking in args.spiking:
        model = spiking_backbone(spiking, args.T, args.size)
        folded = fuse(model, not args.keep_depthwise)
        name = spiking.replace(':', '-') + ('-depthwise' if args.keep_depthwise else '')
        files = write_spiking(folded, name, args.out, args.size, engines, pixels)
        name += f', T = {model.T}' if model.T > 1 else ''
        in_pytorch(name, 'float32', model)
        in_pytorch(name, 'float32, folded', folded)
        in_engines(name, files)
    if args.against:
        import timm

        for other in args.against:
            model = timm.create_model(other).eval()
            in_pytorch(other, 'float32', model)
            in_engines(other, write_ordinary(model, other, args.out, args.size, engines))
    return rows


def main(args: argparse.Namespace) -> None:
    import torch

    from mmspike.deploy.engines import ENGINES, engine_version
    from mmspike.deploy.onnx_export import require
    from mmspike.utils.errors import UserError

    try:
        require(('onnx', 'onnxscript', 'onnxruntime', *(['timm'] if args.against else [])), 'this benchmark')
    except ImportError as error:
        raise UserError(str(error)) from error
    for engine in ENGINES:
        if engine_version(engine) is None:
            print(f'{engine} is not installed: its rows are missing')
    from mmspike.deploy.int8 import cpu_milliseconds  # needs the packages above

    args.out.mkdir(parents=True, exist_ok=True)
    rows = cases(args)
    times = cpu_milliseconds(*(row.pop('run') for row in rows), rounds=args.rounds)
    for row, milliseconds in zip(rows, times, strict=True):
        row['milliseconds'] = milliseconds
    about = dict(size=args.size, rounds=args.rounds, cpu=cpu_name(), torch=torch.__version__, rows=rows)
    (args.out / 'inference.json').write_text(json.dumps(about, indent=1) + '\n')
    lines = ['| network | runtime | numbers | CPU ms an image | of PyTorch | file, MB |', '|---|---|---|---|---|---|']
    first = {row['network']: row['milliseconds'] for row in reversed(rows)}  # in PyTorch as it is
    for row in rows:
        size = '' if row['megabytes'] is None else f'{row["megabytes"]:.1f}'
        share = row['milliseconds'] / first[row['network']]
        cells = row['network'], row['runtime'], row['precision'], f'{row["milliseconds"]:.1f}', f'{share:.2f}', size
        lines.append(f'| {" | ".join(cells)} |')
    (args.out / 'inference.md').write_text('\n'.join(lines) + '\n')
    print('\n'.join([f'{args.size} px, batch 1, one thread, {about["cpu"]}, torch {torch.__version__}:', *lines]))
    print(f'Wrote {args.out / "inference.md"} and {args.out / "inference.json"}')


def cpu_name() -> str:
    """Model of the CPU, and which of its instructions for integers and bfloat16 it has."""
    file = Path('/proc/cpuinfo')
    if not file.is_file():
        return platform.processor()
    fields = dict(line.split(':', 1) for line in file.read_text().split('\n\n')[0].splitlines() if ':' in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    known = ('avx512_vnni', 'avx_vnni', 'avx512_bf16', 'amx_int8', 'amx_bf16')
    has = [flag for flag in known if flag in fields.get('flags', '').split()]
    return f'{fields.get("model name", platform.processor())} ({", ".join(has) or "no instructions for 8 bits"})'


if __name__ == '__main__':
    run(parse_args, main)
