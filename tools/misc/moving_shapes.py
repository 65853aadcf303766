"""Write drawn recordings of an event camera, of shapes that move, in the layout of a published data set.

    moving_shapes.py OUT --layout gen1 [--number 40 8 8] [--seconds 4] [--rests 0.3]

Their boxes or label maps lie beside them as the data set's do, so that its class reads them with sensor_size=(H, W).
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's mmspike, installed or not

from mmspike.cli import run
from mmspike.utils.errors import UserError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('out', type=Path, help='folder to make')
    parser.add_argument('--layout', default='gen1', help='gen1 (default), 1mpx, dsec_det, dsec_semantic, ddd17 or n_caltech101')
    parser.add_argument(
        '--number', type=int, nargs=3, default=[40, 8, 8], metavar=('TRAIN', 'VAL', 'TEST'), help='recordings of each split'
    )
    parser.add_argument('--seconds', type=float, default=4.0, help='duration of a recording (default 4)')
    parser.add_argument('--size', type=int, nargs=2, default=[96, 128], metavar=('H', 'W'), help='sensor (default 96 128)')
    parser.add_argument('--label-period', type=int, default=250_000, metavar='US', help='between labels (default 250000)')
    parser.add_argument(
        '--shapes', type=int, nargs=2, default=[1, 3], metavar=('FEWEST', 'MOST'), help='in a recording (default 1 3)'
    )
    parser.add_argument('--rests', type=float, default=0.0, help='part of the time in which a shape stands still (default 0)')
    parser.add_argument('--scene', type=float, metavar='SECONDS', help='after which other shapes are seen (default: never)')
    parser.add_argument('--noise', type=float, default=1.0, help='events of noise a pixel and second (default 1)')
    parser.add_argument('--seed', type=int, default=0)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from mmspike.datasets.events.drawn_files import write_moving_shapes

    drawing = dict(
        seconds=args.seconds,
        size=tuple(args.size),
        label_period=args.label_period,
        shapes=tuple(args.shapes),
        rests=args.rests,
        noise=args.noise,
        scene=args.scene,
    )
    try:
        root = write_moving_shapes(args.out, args.layout, tuple(args.number), args.seed, **drawing)
    except (ValueError, FileExistsError) as error:
        raise UserError(str(error)) from error
    files = [f for f in root.rglob('*') if f.is_file()]
    print(f'{root}: {len(files)} files, {sum(f.stat().st_size for f in files) / 1e6:.1f} MB')


if __name__ == '__main__':
    run(parse_args, main)
