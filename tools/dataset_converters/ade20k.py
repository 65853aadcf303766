"""Fetch ADE20K with 150 classes (1 GB) and lay it out as configs/_base_/datasets/ade20k.py expects.

    ade20k.py [data/ade] [--archives DIR] [--delete]

The data root of the configs is then data/ade/ADEChallengeData2016. Interrupted, the same command goes on. Without a network it
lists what to download elsewhere and where to put it. Terms of use: https://groups.csail.mit.edu/vision/datasets/ADE20K/
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's mmspike, installed or not

from mmspike.cli import run
from mmspike.utils.download import Archive, prepare

# The authors publish neither checksum nor size. This one is in use in several projects that read the data set.
ARCHIVES = [
    Archive('http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip', '7328b3957e407ddae1d3cbf487f149ef')
]
NUMBERS = dict(training=20210, validation=2000)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', nargs='?', type=Path, default=Path('data/ade'), help='where to (default data/ade)')
    parser.add_argument('--archives', type=Path, help='where the zip file is, or is put (default: folder)')
    parser.add_argument('--delete', action='store_true', help='remove the zip file in the end')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    layout = {
        f'ADEChallengeData2016/{kind}/{split}': number
        for kind in ('images', 'annotations')
        for split, number in NUMBERS.items()
    }
    prepare(ARCHIVES, layout, args.folder, args.archives or args.folder, args.delete)


if __name__ == '__main__':
    run(parse_args, main, any_environment=True)
