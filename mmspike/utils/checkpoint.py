"""Reading checkpoint files without running anything that is in them."""

import os.path as osp
import pickle
import re

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader

STATISTICS = ('min', 'max', 'mean', 'current')  # what mmengine registers itself


def _statistics_method(owner: object, name: str) -> object:
    """Stands for ``getattr`` in a checkpoint, which mmengine's logs need for the methods of HistoryBuffer and nothing else."""
    if owner is not HistoryBuffer or name not in STATISTICS:
        raise pickle.UnpicklingError(f'Unsupported global: GLOBAL builtins.getattr of {name!r}')
    return getattr(owner, name)


def _known_classes() -> list:
    """What a checkpoint of mmengine holds besides tensors and plain values: its logged scalars, as numpy arrays."""
    multiarray = (np._core if hasattr(np, '_core') else np.core).multiarray
    functions = [multiarray._reconstruct, multiarray.scalar]
    names = [(f, f'numpy.{core}.multiarray.{f.__name__}') for f in functions for core in ('core', '_core')]
    dtypes = [getattr(np.dtypes, name) for name in np.dtypes.__all__]
    return [*names, np.ndarray, np.dtype, *dtypes, HistoryBuffer, (_statistics_method, 'builtins.getattr')]


def read_checkpoint(path: str, map_location: str | torch.device | None = 'cpu') -> dict:
    """The content of the checkpoint file ``path``: tensors, plain values and mmengine's logs.

    This is how mmengine reads local files as soon as mmspike is imported. mmengine's own loader would run the code that a
    file brings along, with a warning.

    Raises:
        FileNotFoundError: There is no such file.
        RuntimeError: It is broken, or it holds objects that only code can build, which are named.
    """
    path = osp.expanduser(path)
    if not osp.isfile(path):
        raise FileNotFoundError(f'checkpoint {path} does not exist')
    try:
        with torch.serialization.safe_globals(_known_classes()):
            return torch.load(path, map_location=map_location, weights_only=True)
    except PermissionError:
        raise
    except Exception as error:  # of a broken file it can be any
        if found := re.search(r'(?:GLOBAL|unrecognized function|but got) (<.*?>|\S+)', str(error)):
            raise RuntimeError(
                f'checkpoint {path} is refused: besides tensors it holds {found.group(1)}, which can be loaded only by running '
                'code from the file, and such code can do anything. If you trust whoever made it, extract the weights once, '
                f"where nothing is at stake: torch.save(torch.load('{path}', map_location='cpu', weights_only=False)"
                "['state_dict'], 'weights.pth')"
            ) from error
        raise RuntimeError(
            f'checkpoint {path} ({osp.getsize(path)} bytes) cannot be read: it is cut off or no checkpoint. '
            f'Get it again, or take an older one ({type(error).__name__}: {str(error)[:60]})'
        ) from error


def _load_from_local(filename: str, map_location: str | torch.device | None) -> dict:
    return read_checkpoint(filename, map_location)


CheckpointLoader.register_scheme(prefixes='', loader=_load_from_local, force=True)
