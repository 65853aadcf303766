"""Share of the spikes that flip when a network is computed otherwise.

    spike_flips.py CONFIG CHECKPOINT --against bf16
    spike_flips.py CONFIG CHECKPOINT --against folded --num-images 20 --json flips.json

The network is computed in float32 and a second time

- bf16, fp16: under autocast, as with --amp;
- tf32: with convolutions that round to TF32, on NVIDIA cards since Ampere;
- float64: in double precision;
- folded: as deploy.py folds it;
- threads: on another number of threads of the CPU;
- batch: as the first of four copies in a batch.

An output is what a neuron sends in a time step; those that differ are counted, by stage and in all, on images of the test
set. Without a checkpoint the weights are those with which training starts, and the statistics of the norms are measured on
the images first.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's mmspike, installed or not

from mmspike.cli import run
from mmspike.config.options import add_config_options, add_device_option, positive
from mmspike.utils.errors import UserError

AGAINST = ('bf16', 'fp16', 'tf32', 'float64', 'folded', 'threads', 'batch')
COPIES = 4


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file, or the name of a config of a host')
    parser.add_argument('checkpoint', nargs='?', help='checkpoint file or URL')
    parser.add_argument('--against', choices=AGAINST, required=True, help='the second way, see above')
    parser.add_argument('--num-images', type=positive, default=4, help='images, evenly spaced over the test set (default 4)')
    parser.add_argument(
        '--shape',
        type=positive,
        nargs=2,
        metavar=('HEIGHT', 'WIDTH'),
        help='one random image of this size instead (224 x 224 if the config has no test set)',
    )
    parser.add_argument('--layers', action='store_true', help='print every neuron layer, too')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write everything')
    add_device_option(parser)
    add_config_options(parser)
    return parser.parse_args()


def images(cfg, model, args: argparse.Namespace) -> list[dict]:
    from mmspike.config.loading import random_batch_for, sample_images

    if args.shape is None and cfg.get('test_dataloader') is not None:
        return list(sample_images(cfg, args.num_images))
    height, width = args.shape or (224, 224)
    print(f'On a random image of {height} x {width} px.')
    return [random_batch_for(cfg, model, (height, width))]


def second_way(model, against: str):
    """The other way to compute ``model``.

    Raises:
        UserError: This machine has no such way.
    """
    import torch

    from mmspike.analysis import flips
    from mmspike.deploy import fuse

    device = next(model.parameters()).device.type
    if against == 'threads':
        if device != 'cpu':
            raise UserError('--against threads is about threads of the CPU: add --device cpu')
        return flips.on_threads(model, 1 if torch.get_num_threads() > 1 else 2)
    if against == 'tf32' and (device != 'cuda' or torch.cuda.get_device_capability() < (8, 0)):
        raise UserError('--against tf32 needs an NVIDIA card since Ampere: others do not round to it')
    return dict(
        bf16=lambda: flips.in_half(model, torch.bfloat16),
        fp16=lambda: flips.in_half(model, torch.float16),
        tf32=lambda: flips.in_tf32(model),
        float64=lambda: flips.in_float64(model),
        folded=lambda: flips.plain(fuse(model)),
        batch=lambda: flips.in_batch(model, COPIES),
    )[against]()


def to_text(report, layers: bool) -> str:
    """Markdown table of the stages, or of the layers, too, and of all."""
    rows = [*(report.layers.values() if layers else []), *report.stages().values(), report.total]
    table = [('', 'outputs', 'spikes an output', 'flipped', 'share')]
    table += [(x.name, f'{x.outputs:,}', f'{x.rate:.3f}', f'{x.flipped:,}', f'{x.share:.3%}') for x in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in table]
    lines.insert(1, ['-' * width for width in widths])
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def main(args: argparse.Namespace) -> None:
    import torch

    from mmspike.analysis.flips import measure_norms, plain, spike_flips
    from mmspike.config import data, launch, precision
    from mmspike.config.loading import build_model
    from mmspike.engine.optim import run_mmcv_operators_in_float32

    precision.set_tf32(args.tf32)
    cfg = launch.load_config(args)
    if args.against == 'bf16':
        run_mmcv_operators_in_float32()
    with data.data_faults_explained(cfg, () if args.shape else ('test_dataloader',), ()):
        torch.manual_seed(0)  # of weights that no checkpoint gives
        model = build_model(cfg, args.checkpoint, args.device)
        batches = images(cfg, model, args)
        if args.checkpoint is None:
            print('No checkpoint was given: an untrained network, with statistics of the norms measured on these images.')
            measure_norms(plain(model), batches)
        try:
            report = spike_flips(batches, plain(model), second_way(model, args.against))
        except ValueError as error:
            raise UserError(f'{args.config}: {error}') from error
    print(f'float32 against {args.against}, images: {report.batches}\n{to_text(report, args.layers)}')
    first = report.layers.get(report.first)
    if first is not None:
        print(f'The first layer that differs: {first.name}, {first.flipped} of {first.outputs} outputs.')
    if report.left_out:
        print(f'Not compared: {len(report.left_out)} neurons of the roi_head, which sees other boxes once a proposal differs.')
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        info = dict(config=args.config, checkpoint=args.checkpoint, against=args.against, tf32=args.tf32)
        args.json.write_text(json.dumps(info | report.to_dict(), indent=1), encoding='utf-8')


if __name__ == '__main__':
    run(parse_args, main)
