"""Energy of a network of events at the rates of recordings: SOPs and mJ a second over events a second, and a plot.

event_energy.py CONFIG CHECKPOINT RECORDING [RECORDING ...] [-o out.png] [--windows 20] [--idle 0] [--deployed]
"""

import argparse
import sys
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's mmspike, installed or not

from mmspike.cli import run
from mmspike.config.options import CONFIG, positive
from mmspike.utils.errors import UserError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help=CONFIG)
    parser.add_argument('checkpoint', help='its weights')
    parser.add_argument('recordings', nargs='+', metavar='RECORDING', help='files of events, such as an idle and a busy scene')
    parser.add_argument('-o', '--out', help='picture to write (.png, .svg, .pdf); default: none')
    parser.add_argument('--windows', type=positive, default=20, help='windows of each recording (default 20)')
    parser.add_argument(
        '--idle',
        type=int,
        default=0,
        metavar='EVENTS',
        help='windows with fewer, behind filters, are not looked at (default 0)',
    )
    parser.add_argument('--deployed', action='store_true', help='count the network as deployment folds it')
    parser.add_argument('--preset', choices=['fp32', 'fp16', 'int8'], default='fp32', help='costs of an operation')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    import numpy as np

    from mmspike.analysis.event_rates import measure_rates, plot_rates
    from mmspike.apis import inference
    from mmspike.utils.files import check_writable

    if args.out:
        check_writable(args.out, '--out')
    inferencer = inference(args.config, args.checkpoint, stream=True)
    if args.deployed:
        inferencer.fold()
    series = {}
    print(f'{"":32}{"events/s":>12}{"SOPs/s":>12}{"MACs/s":>12}{"mJ/s":>10}')
    for recording in args.recordings:
        windows = islice(inferencer.windows(recording), args.windows)
        batches = (
            (end - start, len(events), inferencer.batch(events, start, end, args.idle)) for start, end, events in windows
        )
        rates = measure_rates(inferencer.model, batches, args.preset)
        if not rates:
            raise UserError(f'{recording} has no events')
        series[Path(recording).name] = rates
        means = [float(np.mean([getattr(rate, name) for rate in rates])) for name in ('events', 'sops', 'macs', 'energy')]
        print(f'{Path(recording).name[-31:]:32}{means[0]:12.4g}{means[1]:12.4g}{means[2]:12.4g}{means[3]:10.4g}')
    if args.out:
        name = Path(args.config).stem + (', deployed' if args.deployed else '')
        plot_rates(series, args.out, f'{name}, windows of {inferencer.window / 1000:g} ms')
        print(f'wrote {args.out}')


if __name__ == '__main__':
    run(parse_args, main)
