"""Print a config as it will be used, with everything it inherits and every option applied."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's mmspike, installed or not

from mmspike.cli import run
from mmspike.config.options import CONFIG, add_run_options
from mmspike.utils.errors import UserError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help=CONFIG)
    parser.add_argument('--save-path', type=Path, help='also write it to this file, .py, .json or .yml')
    add_run_options(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from mmspike.config import launch

    if args.save_path and args.save_path.suffix not in ('.py', '.json', '.yml', '.yaml'):
        raise UserError(f'--save-path {args.save_path}: expected a file name that ends in .py, .json or .yml')
    cfg = launch.load_run_config(args)
    print(cfg.pretty_text)
    if args.save_path:
        args.save_path.parent.mkdir(parents=True, exist_ok=True)
        cfg.dump(args.save_path)


if __name__ == '__main__':
    run(parse_args, main)
