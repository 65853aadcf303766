"""Configs and types by name."""

import importlib.util
import os
import os.path as osp
import re
from difflib import get_close_matches

from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE

from mmspike.utils.carried import carried
from mmspike.utils.environment import HOST_PACKAGES
from mmspike.utils.errors import UserError

HOSTS = tuple(HOST_PACKAGES)


def type_name(cfg: dict) -> str:
    """The ``type`` of a module's config without scope, or the name of the class if it is one.

    Example:
        >>> type_name(dict(type='mmdet.FPN'))
        'FPN'
    """
    name = cfg.get('type', '')
    return name.rsplit('.', 1)[-1] if isinstance(name, str) else name.__name__


def config_path(config: str) -> str:
    """The file of a config given as a path, or as a name such as 'mmseg::fcn/fcn_r50-d8_4xb2-40k_cityscapes-512x1024.py'.

    A path such as 'configs/mask_rcnn_metaspike_coco.py' that does not exist here is looked up among those that mmspike
    carries, where it was installed from a wheel; so is 'mmspike::mask_rcnn_metaspike_coco.py'.

    A name is looked up among the configs that the installed host carries, by the name under which it is imported. (mmengine
    looks for the distribution, whose name differs between releases.)

    Raises:
        UserError: No such host, or no such config.
    """
    if config.startswith('mmspike::'):
        config = f'configs/{config.removeprefix("mmspike::")}'
    if '::' not in config:
        if not osp.isfile(config):
            ours = carried('configs').parent / config
            if config.startswith('configs/') and ours.is_file():
                return str(ours)
            folder = osp.dirname(config)
            names = sorted(os.listdir(folder or '.')) if osp.isdir(folder or '.') else []
            raise UserError(f'config {config} does not exist{_nearest(osp.basename(config), names, folder)}')
        return config
    host, _, name = config.partition('::')
    spec = importlib.util.find_spec(host) if host in HOSTS else None
    if spec is None or spec.origin is None:
        problem = 'is not installed' if host in HOSTS else f'is none of {", ".join(HOSTS)}'
        raise UserError(f'config {config}: {host} {problem}')
    folder = osp.join(osp.dirname(spec.origin), '.mim', 'configs')
    path = osp.join(folder, *name.split('/'))
    if not osp.isfile(path):
        parent, names = osp.dirname(path), sorted(os.listdir(folder))
        if osp.isdir(parent):
            near = _nearest(osp.basename(path), sorted(os.listdir(parent)), f'{host}::{osp.dirname(name)}')
        else:
            near = _nearest(name.split('/')[0], names, f'{host}::')
        raise UserError(f'config {config} does not exist: {host} has no {name} in its configs ({folder}){near}')
    return path


def _nearest(name: str, names: list[str], folder: str) -> str:
    near = get_close_matches(name, names, 1, 0.6)
    return f'. Did you mean {osp.join(folder, near[0]) if not folder.endswith("::") else folder + near[0]}?' if near else ''


def read_file(config: str) -> Config:
    """The config of a file or name, see :func:`config_path`; a ``_base_`` may be such a name, too.

    ``Config.fromfile`` finds ``_base_ = 'mmseg::…'`` only where mmseg's distribution is called mmsegmentation, which the
    maintained one, onedl-mmsegmentation, is not. Here each host is found by the name under which it is imported.

    Raises:
        UserError: The config, or one that it inherits from, does not exist, or is of a host that is not installed.
    """
    path = config_path(config)
    distributions = {host: MODULE2PACKAGE[host] for host in HOSTS}
    MODULE2PACKAGE.update({host: host for host in HOSTS})
    try:
        return Config.fromfile(path)
    except ModuleNotFoundError as error:
        missing = re.match(r'(\w+) is not installed, please install', str(error))
        if missing is None or missing[1] not in HOST_PACKAGES:
            raise
        raise UserError(
            f'config {config} inherits from a config of {missing[1]}, which is not installed: '
            f'pip install {HOST_PACKAGES[missing[1]]}'
        ) from error
    except FileNotFoundError as error:
        raise UserError(f'config {config}: {f"{error.filename} does not exist" if error.filename else error}') from error
    finally:
        MODULE2PACKAGE.update(distributions)
