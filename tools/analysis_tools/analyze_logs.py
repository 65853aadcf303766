"""Curves and times from the JSON logs of trainings with any host, firing rates included.

    analyze_logs.py plot_curve LOG [LOG …] --keys loss coco/bbox_mAP --out curves.png
    analyze_logs.py plot_curve work_dirs/a --keys 'firing_rate/backbone.stages.3.*' --out rates.png
    analyze_logs.py cal_train_time LOG [LOG …]

LOG is a work directory (with all restarts of the run) or a file vis_data/*.json in it. The commands are those of the hosts'
own tools, which do not read what FiringRateHook writes; mmseg's also needs seaborn.
"""

import argparse
import sys
from pathlib import Path
from statistics import mean, pstdev

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's mmspike, installed or not

from mmspike.cli import run
from mmspike.utils.errors import UserError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tasks = parser.add_subparsers(dest='task', required=True)
    plot = tasks.add_parser('plot_curve', help='draw scalars')
    plot.add_argument('logs', nargs='+', help='work directories or log files')
    plot.add_argument('--keys', nargs='+', default=['loss'], help="scalars, a panel each; '*' stands for any letters")
    plot.add_argument('--legend', nargs='+', help='a name for each log (default: its path)')
    plot.add_argument('--title')
    plot.add_argument('--out', required=True, help='picture to write (.png, .svg, .pdf)')
    time = tasks.add_parser('cal_train_time', help='seconds an iteration')
    time.add_argument('logs', nargs='+', help='work directories or log files')
    args = parser.parse_args()
    if args.task == 'plot_curve' and args.legend and len(args.legend) != len(args.logs):
        parser.error(f'--legend has {len(args.legend)} names for {len(args.logs)} logs')
    return args


def main(args: argparse.Namespace) -> None:
    from mmspike.analysis.logs import plot_logs, read_log, train_times

    try:
        logs = [read_log(path) for path in args.logs]
        if args.task == 'plot_curve':
            plot_logs(dict(zip(args.legend or args.logs, logs, strict=True)), args.keys, args.out, args.title)
            print(f'Written to {args.out}')
            return
    except (FileNotFoundError, ValueError) as error:
        raise UserError(str(error)) from error
    for path, log in zip(args.logs, logs, strict=True):
        times = train_times(log)
        if not times:
            print(f'{path}: fewer than two training lines, no time')
            continue
        all_times = [t for epoch in times.values() for t in epoch]
        print(f'{path}: {mean(all_times):.4f} s an iteration (standard deviation {pstdev(all_times):.4f})')
        if None not in times:
            means = {epoch: mean(values) for epoch, values in times.items()}
            slowest, fastest = max(means, key=means.get), min(means, key=means.get)
            print(f'  slowest epoch {slowest}: {means[slowest]:.4f} s, fastest epoch {fastest}: {means[fastest]:.4f} s')


if __name__ == '__main__':
    run(parse_args, main)
