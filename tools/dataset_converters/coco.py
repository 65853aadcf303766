"""Fetch COCO 2017 (20 GB, and as much again unpacked) and lay it out as configs/_base_/datasets/coco_*.py expect.

    coco.py [data/coco] [--splits train val] [--archives DIR] [--delete]

Interrupted, the same command goes on. Without a network it lists what to download elsewhere and where to put it. Terms of use:
https://cocodataset.org/#termsofuse
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's mmspike, installed or not

from mmspike.cli import run
from mmspike.utils.download import Archive, prepare

# The authors publish no checksums. These are the ones in use for years, the same in PaddleDetection and other projects.
SERVER = 'http://images.cocodataset.org'
ANNOTATIONS = Archive(f'{SERVER}/annotations/annotations_trainval2017.zip', 'f4bbac642086de4f52a3fdda2de5fa2c', 252907541)
IMAGES = dict(
    val=Archive(f'{SERVER}/zips/val2017.zip', '442b8da7639aecaf257c1dceb8ba8c80', 815585330),
    train=Archive(f'{SERVER}/zips/train2017.zip', 'cced6f7f71b7629ddf16f17bbcfab6b2', 19336861798),
)
NUMBERS = dict(train=118287, val=5000)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('data_root', nargs='?', type=Path, default=Path('data/coco'), help='where to (default data/coco)')
    parser.add_argument('--splits', nargs='+', choices=NUMBERS, default=list(NUMBERS), help='images of which split')
    parser.add_argument('--archives', type=Path, help='where the zip files are, or are put (default: data_root)')
    parser.add_argument('--delete', action='store_true', help='remove the zip files in the end')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    layout = {f'annotations/instances_{split}2017.json': 0 for split in args.splits}
    layout |= {f'{split}2017': NUMBERS[split] for split in args.splits}
    archives = [ANNOTATIONS, *(archive for split, archive in IMAGES.items() if split in args.splits)]
    prepare(archives, layout, args.data_root, args.archives or args.data_root, args.delete)


if __name__ == '__main__':
    run(parse_args, main, any_environment=True)
