"""Public data sets that mmpretrain downloads: whether their files are there and whole."""

import hashlib
import os.path as osp

from .findings import Clock, Report
from .sources import Source


def _sum(path: str) -> str:
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'md5').hexdigest()


def check_download(report: Report, source: Source, clock: Clock) -> None:
    """Look at the files of CIFAR-10 and CIFAR-100 (with their sums), MNIST and Fashion-MNIST."""
    dataset = source.dataset
    root = dataset.data_prefix['root']
    summed = hasattr(dataset, 'base_folder')  # CIFAR: files of the archive have sums; MNIST: only packed ones have
    names = [(name if summed else name.removesuffix('.gz'), digest) for name, digest in dataset.train_list + dataset.test_list]
    paths = [(osp.join(root, getattr(dataset, 'base_folder', ''), name), digest) for name, digest in names]
    missing = [path for path, _ in paths if not osp.isfile(path)]
    with clock.stopped():
        broken = [path for path, digest in paths if summed and path not in missing and _sum(path) != digest]
    empty = [path for path, _ in paths if not summed and path not in missing and not osp.getsize(path)]
    wrong = broken + empty
    text = f'{len(paths) - len(missing) - len(wrong)} of {len(paths)} files'
    if len(missing) == len(paths) and dataset.download:
        text = f'no file in {root}: they are downloaded when the run begins'
    elif missing or wrong:
        what = f'{len(missing)} of {len(paths)} files do not exist, the first is {missing[0]}' if missing else ''
        if wrong:
            what += f'{"; " if what else ""}{wrong[0]} is cut off or another file ({osp.getsize(wrong[0])} bytes)'
        if dataset.download and (missing or broken):
            report.doubt(source.place, f'{what}: {source.name} is downloaded anew when the run begins')
        else:
            report.stop(source.place, f'{what}: remove the folder and set download=True, or copy the files anew')
    report.row(source.place, source.name, text, 'files' + (' and their sums' if summed else ''))
