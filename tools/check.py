"""Compare the data of a config with the config: classes, heads, annotations, labels, pictures, recordings."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's mmspike, installed or not

from mmspike.cli import run
from mmspike.config.options import CONFIG, add_config_options


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help=CONFIG)
    parser.add_argument('--every', action='store_true', help='open every picture, label and recording, not a sample of 200')
    parser.add_argument(
        '--seconds', type=float, default=None, help='time for opening files (default: 30, with --every an hour)'
    )
    add_config_options(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> int:
    from mmspike.config import launch
    from mmspike.config.data_check import check_data

    cfg = launch.load_config(args)
    seconds = args.seconds or (3600.0 if args.every else 30.0)
    report = check_data(cfg, seconds=seconds, every=args.every)
    print(report)
    return int(bool(report.errors))


if __name__ == '__main__':
    run(parse_args, main)
