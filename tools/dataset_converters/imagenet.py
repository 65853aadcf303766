"""Lay ImageNet-1k out in class folders, as configs/_base_/datasets/imagenet.py expects, from its tar files.

    imagenet.py [data/imagenet] [--archives DIR] [--splits train val]

The tar files need an account at https://image-net.org/challenges/LSVRC/2012/2012-downloads.php. They are checked and unpacked
by torchvision. A split is unpacked aside and gets its name when it is complete: interrupted, it begins anew.
"""

import argparse
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's mmspike, installed or not

from mmspike.cli import run
from mmspike.utils.errors import UserError

NUMBERS = dict(train=1281167, val=50000)
CLASSES = 1000


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('data_root', nargs='?', type=Path, default=Path('data/imagenet'), help='default data/imagenet')
    parser.add_argument('--archives', type=Path, help='where the tar files are (default: data_root)')
    parser.add_argument('--splits', nargs='+', choices=NUMBERS, default=list(NUMBERS))
    return parser.parse_args()


def counted(folder: Path) -> tuple[int, int]:
    """Class folders, and images in them."""
    classes = [entry for entry in folder.iterdir() if entry.is_dir()] if folder.is_dir() else []
    return len(classes), sum(1 for entry in classes for _ in entry.iterdir())


def lay_out(split: str, root: Path, archive: Path) -> None:
    """Unpack ``archive`` to the class folders ``root/split``."""
    from torchvision.datasets import imagenet

    part = f'{split}.part'
    if (root / part).exists():
        shutil.rmtree(root / part)
    print(f'{archive}: checking and unpacking', flush=True)
    function = imagenet.parse_train_archive if split == 'train' else imagenet.parse_val_archive
    function(root, str(archive), folder=part)
    if (found := counted(root / part)) != (CLASSES, NUMBERS[split]):
        raise UserError(f'{root / part} has {found[0]} classes and {found[1]} images, expected {CLASSES} and {NUMBERS[split]}')
    (root / part).rename(root / split)


def main(args: argparse.Namespace) -> None:
    for package in ('torchvision', 'scipy'):
        if find_spec(package) is None:
            raise UserError(f'Unpacking ImageNet needs {package}, which is not installed: pip install {package}')
    from torchvision.datasets import imagenet

    root, folder = args.data_root, (args.archives or args.data_root).absolute()
    todo = [split for split in args.splits if not (root / split).is_dir()]
    needed = [*todo, *(['devkit'] if 'val' in todo else [])]
    missing = [imagenet.ARCHIVE_META[key] for key in needed if not (folder / imagenet.ARCHIVE_META[key][0]).is_file()]
    if missing:
        raise UserError(
            'ImageNet can be downloaded with an account only. Get from '
            f'https://image-net.org/challenges/LSVRC/2012/2012-downloads.php and put into {folder}:\n  '
            + '\n  '.join(f'{name} (md5 {md5})' for name, md5 in missing)
        )
    root.mkdir(parents=True, exist_ok=True)
    try:
        if 'val' in todo:
            imagenet.parse_devkit_archive(root, str(folder / imagenet.ARCHIVE_META['devkit'][0]))
        for split in todo:
            lay_out(split, root, folder / imagenet.ARCHIVE_META[split][0])
    except RuntimeError as error:  # a checksum
        raise UserError(str(error)) from error
    for split in args.splits:
        found = counted(root / split)
        complete = found == (CLASSES, NUMBERS[split])
        print(f'{root / split}: {found[0]} classes, {found[1]} images{"" if complete else f", expected {NUMBERS[split]}"}')
        if not complete:
            raise UserError(f'{root / split} is not complete: remove it, and run again')


if __name__ == '__main__':
    run(parse_args, main, any_environment=True)
