"""Configs by name, and the weights that come with them."""

from difflib import get_close_matches
from pathlib import Path

from mmspike.config.names import config_path
from mmspike.utils.carried import carried
from mmspike.utils.errors import UserError
from mmspike.utils.weights import SCHEME, list_weights

from .sources import InputError


def list_configs() -> dict[str, Path]:
    """Every config of this project: name (the file's, without .py) -> file.

    Example:
        >>> [name for name in list_configs() if name.startswith('mask_rcnn_metaspike_')]
        ['mask_rcnn_metaspike_coco', 'mask_rcnn_metaspike_nuclei', 'mask_rcnn_metaspike_shapes']
    """
    folder = carried('configs')
    return {path.stem: path for path in sorted(folder.rglob('*.py')) if '_base_' not in path.relative_to(folder).parts}


def find_config(config_or_name: str | Path) -> str:
    """The file of a config: a path, the name of a config of this project, or one of a host such as ``'mmdet::…'``.

    Raises:
        InputError: It is none of these; the nearest names are listed.

    Example:
        >>> Path(find_config('mask_rcnn_espike_nuclei')).name
        'mask_rcnn_espike_nuclei.py'
    """
    given = str(config_or_name)
    if Path(given).is_file():
        return given
    if '::' in given:
        try:
            return config_path(given)
        except UserError as error:
            raise InputError(str(error)) from None
    configs = list_configs()
    name = Path(given).name.removesuffix('.py')
    if name == given and name in configs:
        return str(configs[name])
    near = get_close_matches(name, configs, 5, 0.5)
    hint = f'Nearest names: {", ".join(near)}' if near else f'Names: {", ".join(configs)}'
    raise InputError(f'{given!r} is neither a config file nor the name of a config. {hint}')


def shipped_checkpoint(config_or_name: str | Path) -> str:
    """The checkpoint that comes with a config of this project, as ``mmspike://NAME``.

    Raises:
        InputError: There is no such config, or it comes without weights; those that have some are listed.
    """
    path = Path(find_config(config_or_name))
    ours = list_configs().get(path.stem)
    if path.stem not in list_weights() or ours is None or path.resolve() != ours.resolve():
        raise InputError(
            f'{str(config_or_name)!r} comes without trained weights, so it needs a checkpoint. With weights come: '
            f'{", ".join(list_weights())}'
        )
    return f'{SCHEME}{path.stem}'
