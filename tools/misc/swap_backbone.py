"""Put a spiking backbone into a config of mmdet, mmseg or mmpretrain and write the resulting config."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's mmspike, installed or not

from mmspike.cli import run
from mmspike.config.options import CONFIG, add_backbone_options
from mmspike.utils.errors import UserError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help=CONFIG)
    add_backbone_options(parser, required=True)
    parser.add_argument('-o', '--out', required=True, help='file of the resulting config, .py')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from mmspike.config import launch

    out = Path(args.out)
    if out.suffix != '.py':
        raise UserError(f'--out {args.out}: expected a file name that ends in .py')
    cfg = launch.read_config(args.config, args.backbone, args.spiking_heads)
    out.parent.mkdir(parents=True, exist_ok=True)
    cfg.dump(out)
    print(f'Written to {out}')


if __name__ == '__main__':
    run(parse_args, main)
