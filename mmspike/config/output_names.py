"""Names of the files that a tool writes for pictures: as the pictures, with the folders that they lie in."""

import functools
import inspect
import os
import os.path as osp
from collections.abc import Callable
from typing import Any

from mmengine.config import Config

from mmspike.config.data_paths import config_datasets
from mmspike.utils.errors import UserError

#: keys of data_prefix that hold the folder of images, of mmdet and mmseg; mmpretrain's is a text
IMAGES = ('img', 'img_path')
#: formats that OpenCV writes
WRITTEN = ('.png', '.jpg', '.jpeg', '.bmp', '.webp', '.tif', '.tiff')


class OutputNames:
    """Names of output files, unique for the images of a config's data sets: ``day/0.png`` and ``night/0.png`` stay apart.

    A name is the image's path under the folder of its data set, ``data_root`` with ``data_prefix``; the hosts' is the last part
    alone.

    Args:
        cfg: The config.
        loader: The data loader whose images they are, such as 'test_dataloader'.
    """

    def __init__(self, cfg: Config, loader: str) -> None:
        self.folders = {
            osp.abspath(folder) for dataset in config_datasets(cfg, (loader,)) for folder in _image_folders(dataset)
        }
        self._labels: dict[str, str] = {}

    def picture(self, path: str) -> str:
        """The name of a picture of the image ``path``, in its format if that can be written, else as PNG."""
        name = self._under_folder(path)
        return name if name.lower().endswith(WRITTEN) else f'{name}.png'

    def labels(self, path: str) -> str:
        """The name of the label image of the image ``path``, a PNG.

        Raises:
            UserError: Another image has the same name but for its suffix.
        """
        name = f'{osp.splitext(self._under_folder(path))[0]}.png'
        other = self._labels.setdefault(name, path)
        if other != path:
            raise UserError(f'{other} and {path} would have the same label image, {name}: rename one of them')
        return name

    def _under_folder(self, path: str) -> str:
        path = osp.abspath(path)
        within = [folder for folder in self.folders if path.startswith(folder.rstrip(os.sep) + os.sep)]
        return osp.relpath(path, max(within, key=len) if within else os.sep)


def _image_folders(dataset: dict) -> list[str]:
    prefix: Any = dataset.get('data_prefix') or ''
    prefixes = [prefix] if isinstance(prefix, str) else [prefix[key] for key in IMAGES if prefix.get(key)]
    return [osp.join(dataset.get('data_root') or '', part) for part in prefixes or ['']]


def name_pictures(draw: Callable[..., Any], names: OutputNames, folder: str | None = None) -> Callable[..., Any]:
    """``add_datasample`` or ``visualize_cls`` of a host's visualizer, with names for the pictures that it writes.

    Args:
        folder: Where they go; by default where the host puts them.
    """

    signature = inspect.signature(draw)

    @functools.wraps(draw)
    def draw_named(*args, **kwargs) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        sample, out_file = given.get('data_sample'), given.get('out_file')
        if (folder or out_file) and sample is not None and 'img_path' in sample:
            out_file = osp.join(folder or osp.dirname(str(out_file)), names.picture(sample.img_path))
            os.makedirs(osp.dirname(out_file), exist_ok=True)
            kwargs['out_file'] = out_file
        return draw(*args, **kwargs)

    return draw_named
