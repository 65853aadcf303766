"""Pictures in class folders. Needs mmpretrain."""

import logging
import os
import os.path as osp
from collections.abc import Iterator, Sequence

from mmengine.logging import print_log
from mmpretrain.datasets import CustomDataset

from mmspike.datasets.loading import IMAGE_SUFFIXES
from mmspike.registry import DATASETS
from mmspike.utils.errors import UserError


def class_folders(root: str) -> list[str]:
    """The folders in ``root``, sorted, without those whose name begins with a dot."""
    return sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith('.'))


def files_below(root: str) -> Iterator[str]:
    """Paths of the files under ``root``, seen from there, sorted by folder; names that begin with a dot are left out."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith('.'))
        yield from (osp.relpath(osp.join(folder, name), root) for name in sorted(names) if not name.startswith('.'))


@DATASETS.register_module()
class ClassFolders(CustomDataset):
    """mmpretrain's ``CustomDataset`` on ordinary disks: hidden names are left out, and a label is that of the folder's name.

    ``CustomDataset`` takes a folder such as ``.ipynb_checkpoints`` for a class, and numbers the folders that are there:
    where one is missing in validation, the labels behind it are others than in training. Here names that begin with
    a dot do not count, and with ``classes`` every folder has the label of the class of its name, whatever folders are there.

    Args:
        classes: Names of the classes, in the order of their labels. None: the sorted folders, so that training and
            validation need the same ones.
        extensions: Suffixes of pictures; by default those that OpenCV reads, WebP and TIFF among them.
        kwargs: mmpretrain's ``CustomDataset``: ``data_root``, ``data_prefix``, ``ann_file``, ``with_label``, ``pipeline``, …

    Raises:
        UserError: A folder is not a class, or there is no picture.

    Example:
        >>> ClassFolders(data_root='data/pets', data_prefix='val', classes=('cat', 'dog')).get_data_info(0)
    """

    def __init__(self, *args, extensions: Sequence[str] = IMAGE_SUFFIXES, **kwargs) -> None:
        super().__init__(*args, extensions=extensions, **kwargs)

    def _find_samples(self) -> list:
        root = self.img_prefix
        if not osp.isdir(root):
            raise UserError(f'{root} does not exist: expected a folder with one folder for each class')
        if not self.with_label:
            found: list = [name for name in files_below(root) if self.is_valid_file(name)]
        else:
            folders = class_folders(root)
            if self.CLASSES is None:
                self._metainfo['classes'] = tuple(folders)
            found = []
            for folder in folders:
                if folder not in self.class_to_idx:
                    raise UserError(
                        f'the folder {osp.join(root, folder)} is no class: expected some of {list(self.CLASSES)}. Add it to '
                        'classes, or move it elsewhere'
                    )
                names = [name for name in files_below(osp.join(root, folder)) if self.is_valid_file(name)]
                if not names:
                    print_log(f'{osp.join(root, folder)} has no picture: its class has no sample', 'current', logging.WARNING)
                found += [(osp.join(folder, name), self.class_to_idx[folder]) for name in names]
        if not found:
            raise UserError(f'{root} has no picture with a suffix of {" ".join(sorted(self.extensions))}')
        return found
