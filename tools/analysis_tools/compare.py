"""Several runs side by side: metric, parameters, energy, speed.

    compare.py work_dirs/spiking work_dirs/relu --out table.md table.csv plot.png
    compare.py snn=work_dirs/a,energy.json,speed.json ann=work_dirs/b

A run is a work directory, or several paths with commas between, with a name of your choice before '='. Of a directory its logs
are read (metrics over the training) and the JSON files that lie in it: those of get_energy.py --json (energy) and of
benchmark.py --json (speed). What no file tells is shown as missing.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's mmspike, installed or not

from mmspike.cli import run
from mmspike.utils.errors import UserError

PICTURES = ('.png', '.svg', '.pdf')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('runs', nargs='+', metavar='[NAME=]PATH[,PATH…]', help='runs')
    parser.add_argument(
        '--metrics', nargs='+', metavar='KEY', help='as in the logs, such as coco/bbox_mAP_50; larger is better'
    )
    parser.add_argument('--out', nargs='+', type=Path, default=[], metavar='FILE', help='.md, .csv, .png, .svg or .pdf')
    args = parser.parse_args()
    for path in args.out:
        if path.suffix not in ('.md', '.csv', *PICTURES):
            parser.error(f'--out {path}: expected a file name that ends in .md, .csv, {", ".join(PICTURES)}')
    return args


def main(args: argparse.Namespace) -> None:
    from mmspike.analysis.comparison import columns, plot_comparison, read_run, to_markdown, write_csv

    try:
        runs = [read_run(text) for text in args.runs]
        names = [run.name for run in runs]
        if len(set(names)) < len(names):
            raise ValueError(f'runs of the same name: {", ".join(names)}. Give them names, as NAME=PATH')
        table = columns(runs, args.metrics)
        print(to_markdown(table))
        for path in args.out:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == '.md':
                path.write_text(f'{to_markdown(table)}\n', encoding='utf-8')
            elif path.suffix == '.csv':
                write_csv(table, path)
            else:
                plot_comparison(runs, table, path)
    except (FileNotFoundError, ValueError) as error:
        raise UserError(str(error)) from error


if __name__ == '__main__':
    run(parse_args, main)
