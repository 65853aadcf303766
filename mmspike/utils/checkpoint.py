"""Reading checkpoint files without running anything that is in them."""

import datetime
import io
import os
import os.path as osp
import pickle
import re
from collections import OrderedDict
from typing import Any, BinaryIO

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from mmengine.runner.checkpoint import CheckpointLoader

from .errors import UserError
from .files import stand_in
from .weights import SCHEME, find_weights

#: methods that a file may name: of logs what mmengine registers itself, of the one-cycle schedule its curve
METHODS = {
    HistoryBuffer: ('min', 'max', 'mean', 'current'),
    OneCycleParamScheduler: ('_annealing_cos', '_annealing_linear'),
}
#: what wrappers of modules put into the names of parameters, anywhere: torch.compile, FSDP, recomputation
WRAPPERS = re.compile(r'(?:(?<=\.)|^)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.')


class CheckpointError(UserError, RuntimeError):
    """A checkpoint cannot be read, or not used for what it was given; the text says why and what to do."""


class BrokenCheckpoint(CheckpointError):
    """A checkpoint is cut off, or the file is none."""


class RefusedCheckpoint(CheckpointError):
    """A checkpoint holds objects that only code can build.

    Attributes:
        found: The name of the first one.
    """

    found: str


class MissingCheckpoint(UserError, FileNotFoundError):
    """There is no such checkpoint; the text lists those that lie in its folder."""


def _method(owner: object, name: str) -> object:
    """Stands for ``getattr`` in a checkpoint."""
    if name not in METHODS.get(owner, ()):
        raise pickle.UnpicklingError(f'Unsupported global: GLOBAL builtins.getattr of {name!r}')
    return getattr(owner, name)


def _empty_bytes() -> bytes:
    """Stands for ``bytes``, which old pickle protocols call for an empty value."""
    return b''


def _path(*parts: str) -> str:
    return osp.join(*parts)


def _known_classes() -> list:
    """The one list of what is read besides tensors and what torch reads by itself (numbers, text, lists, dicts, sets).

    None of it can do more than hold values. Where a name would bring a class along that can, or that is of no use without its
    library, a plain value is built in its place.
    """
    multiarray = (np._core if hasattr(np, '_core') else np.core).multiarray
    functions = [multiarray._reconstruct, multiarray.scalar]
    names = [(f, f'numpy.{core}.multiarray.{f.__name__}') for f in functions for core in ('core', '_core')]
    dtypes = [getattr(np.dtypes, name) for name in np.dtypes.__all__]
    dates = [getattr(datetime, name) for name in ('date', 'datetime', 'time', 'timedelta', 'timezone')]
    paths = [
        (_path, f'{module}.{prefix}Path')
        for module in ('pathlib', 'pathlib._local')
        for prefix in ('Posix', 'Windows', 'PurePosix')
    ]
    replaced = [
        (dict, f'{ConfigDict.__module__}.ConfigDict'),  # what mmengine makes of every dict of a config
        (_method, 'builtins.getattr'),
        (_empty_bytes, 'builtins.bytes'),
        *paths,
    ]
    values = [np.ndarray, np.dtype, *dtypes, *dates, frozenset, range]
    return [*names, *values, *replaced, *METHODS]


def _load(file: str | BinaryIO, map_location: str | torch.device | None, mmap: bool | None = None) -> Any:
    with torch.serialization.safe_globals(_known_classes()):
        return torch.load(file, map_location=map_location, weights_only=True, mmap=mmap)


def is_readable(value: object) -> bool:
    """True if a checkpoint that holds ``value`` can be read without running code."""
    with io.BytesIO() as file:
        try:
            torch.save(value, file)
            file.seek(0)
            _load(file, 'cpu')
        except Exception:  # of an object that cannot be pickled it can be any
            return False
    return True


def read_checkpoint(path: str, map_location: str | torch.device | None = 'cpu', mmap: bool | None = None) -> dict:
    """The content of the checkpoint file ``path``: tensors, plain values and mmengine's logs.

    This is how mmengine reads local files as soon as mmspike is imported. mmengine's own loader would run the code that a
    file brings along, with a warning.

    Args:
        mmap: Leave the tensors in the file until they are used.

    Raises:
        MissingCheckpoint: There is no such file.
        RefusedCheckpoint: It holds objects that only code can build, the first of which is named.
        BrokenCheckpoint: It is cut off or no checkpoint.
        CheckpointError: It must not be read, or is none of a model.
    """
    path = osp.expanduser(path)
    if not osp.isfile(path):
        raise MissingCheckpoint(f'checkpoint {path} {_what_is_there(path)}')
    if path.lower().endswith('.onnx'):
        raise CheckpointError(
            f'checkpoint {path} is an ONNX file, which tools/test.py, tools/image_demo.py and inference() run: '
            'here the checkpoint is needed from which it was exported'
        )
    try:
        content = _load(path, map_location, mmap)
    except PermissionError as error:
        raise CheckpointError(
            f'checkpoint {path} cannot be opened: {error.strerror}. Ask its owner for the right to read it'
        ) from error
    except Exception as error:  # of a broken file it can be any
        if found := re.search(r'(?:GLOBAL|unrecognized function|but got) (<.*?>|\S+)', str(error)):
            refused = RefusedCheckpoint(
                f'checkpoint {path} is refused: besides tensors it holds {found.group(1)}, which can be loaded only by running '
                'code from the file, and such code can do anything. If you trust whoever made it, extract the weights once, '
                f"where nothing is at stake: torch.save(torch.load('{path}', map_location='cpu', weights_only=False)"
                "['state_dict'], 'weights.pth')"
            )
            refused.found = found.group(1)
            raise refused from error
        raise BrokenCheckpoint(
            f'checkpoint {path} ({osp.getsize(path)} bytes) cannot be read: it is cut off or no checkpoint. '
            f'Get it again, or take an older one ({type(error).__name__}: {str(error)[:60]}){stand_in(path)}'
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f'checkpoint {path} holds a {type(content).__name__}: expected a dict of weights, or with a state_dict'
        )
    return content


def _what_is_there(path: str) -> str:
    """The message about a ``path`` that is not a file: the newest checkpoints in its folder."""
    folder = path if osp.isdir(path) else osp.dirname(path) or '.'
    is_folder = 'is a folder' if osp.isdir(path) else 'does not exist'
    if not osp.isdir(folder):
        return f'does not exist, nor does its folder {folder}'
    found = [name for name in os.listdir(folder) if name.endswith(('.pth', '.pt'))]
    found.sort(key=lambda name: osp.getmtime(osp.join(folder, name)), reverse=True)
    more = f' and {len(found) - 5} more' if len(found) > 5 else ''
    return f'{is_folder}; checkpoints in {folder}: {", ".join(found[:5]) or "none"}{more}'


def without_wrappers(state_dict: dict) -> dict:
    """The weights under the names of the bare model: without ``module.`` of DDP, ``_orig_mod.`` of torch.compile, …."""
    names = {key: WRAPPERS.sub('', key) if isinstance(key, str) else key for key in state_dict}
    if names and all(isinstance(name, str) and name.startswith('module.') for name in names.values()):
        names = {key: WRAPPERS.sub('', name.removeprefix('module.')) for key, name in names.items()}
    if all(key == name for key, name in names.items()):
        return state_dict
    renamed = OrderedDict((names[key], value) for key, value in state_dict.items())
    if len(renamed) < len(state_dict):
        return state_dict  # weights with and without a wrapper side by side are not the same weights
    return renamed


def _load_from_local(filename: str, map_location: str | torch.device | None) -> dict:
    """A file as mmengine gets it, which loads its weights into a model."""
    content = read_checkpoint(filename, map_location)
    meta = content.get('meta')
    if isinstance(meta, dict) and 'config' in meta:
        # of mmengine's predecessors: Runner.resume would run this text as a config file, for a number of GPUs
        content['meta'] = {key: value for key, value in meta.items() if key != 'config'}
    if isinstance(content.get('state_dict'), dict):
        content['state_dict'] = without_wrappers(content['state_dict'])
        return content
    return without_wrappers(content)


def _load_from_mmspike(filename: str, map_location: str | torch.device | None) -> dict:
    """Weights that come with the package, of the name behind ``mmspike://``."""
    return _load_from_local(str(find_weights(filename)), map_location)


CheckpointLoader.register_scheme(prefixes='', loader=_load_from_local, force=True)
CheckpointLoader.register_scheme(prefixes=SCHEME, loader=_load_from_mmspike, force=True)
