"""A recording of an event camera in numbers: size, times, polarities, the busiest pixel; and a picture of it.

    events.py RECORDING [-o out.png] [--interval START END]

RECORDING is .dat, .raw (EVT 2.0, 3.0), .h5 (DSEC, RVT), .aedat4, .aedat, .bin or .npz. Long ones are read block by block; the
picture shows 0.2 s from the middle, or the interval.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's mmspike, installed or not

from mmspike.cli import run
from mmspike.utils.errors import UserError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('recording', metavar='RECORDING', help='file of events')
    parser.add_argument('-o', '--out', help='picture to write (.png, .svg, .pdf); default: none')
    parser.add_argument(
        '--interval', type=int, nargs=2, metavar=('START', 'END'), help="what to draw, in us of the recording's clock"
    )
    parser.add_argument('--T', type=int, default=8, help='frames of the picture (default 8)')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from mmspike.datasets.events import open_events
    from mmspike.datasets.events.plots import plot_events
    from mmspike.datasets.events.summary import summarise
    from mmspike.datasets.events.transforms import integrate

    with open_events(args.recording) as stream:
        summary = summarise(stream)
        print(summary)
        if args.out is None:
            return
        middle = sum(summary.span) // 2
        start, end = args.interval or (middle - 100_000, middle + 100_000)
        events = stream.between(start, end)
    if not len(events):
        raise UserError(f'{args.recording} has no events from {start} to {end} us: choose an --interval with some')
    size = summary.sensor_size or summary.extent
    title = f'{args.recording}: {len(events)} events from {events["t"][0]} to {events["t"][-1]} us'
    plot_events(events, integrate(events, size, args.T, 'time'), args.out, title)
    print(f'wrote {args.out}')


if __name__ == '__main__':
    run(parse_args, main)
