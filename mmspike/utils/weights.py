"""Trained weights that come with the package, by the names of their configs. ``mmspike/weights/index.json`` lists them."""

import hashlib
import json
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from .errors import UserError

FOLDER = Path(__file__).resolve().parents[1] / 'weights'
#: wherever a checkpoint is asked for, this with a name behind it is one of the package
SCHEME = 'mmspike://'


@dataclass(frozen=True)
class Weights:
    """Weights that come with the package.

    Attributes:
        file: Its name ends in the first 8 digits of ``sha256``.
        sha256: Of the file.
        data: What the network was trained and tested on.
        metrics: Of this file, as ``tools/test.py`` gives them.
        seed: Of the training.
        train: The command that trained it.
    """

    file: str
    sha256: str
    data: str
    metrics: dict[str, float]
    seed: int
    train: str

    @property
    def path(self) -> Path:
        """Where the file lies; it is not compared with ``sha256``, see :func:`find_weights`."""
        return FOLDER / self.file


@cache
def list_weights() -> dict[str, Weights]:
    """Every network that comes with trained weights: the name of its config -> :class:`Weights`.

    Example:
        >>> from mmspike.apis import list_weights
        >>> sorted(list_weights())
        ['mask_rcnn_espike_nuclei', 'mask_rcnn_metaspike_shapes', 'spikeyolo_nuclei']
    """
    content = json.loads((FOLDER / 'index.json').read_text(encoding='utf-8'))
    return {name: Weights(**entry) for name, entry in content.items()}


@cache
def find_weights(name: str) -> Path:
    """The file of the weights of this name, when it is the one that was published.

    Args:
        name: Of a config, with or without ``mmspike://`` in front.

    Raises:
        UserError: None come under this name, or the file is missing or has another SHA-256.
    """
    name, known = name.removeprefix(SCHEME), list_weights()
    if name not in known:
        near = get_close_matches(name, known, 1)
        raise UserError(
            f'no trained weights come with the name {name!r}; those that do: {", ".join(known)}'
            + (f'. Did you mean {near[0]}?' if near else '. Give a checkpoint of your own')
        )
    path = known[name].path
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
    if found != known[name].sha256:
        fault = 'is missing' if found is None else f'has the SHA-256 {found}, expected {known[name].sha256}'
        raise UserError(f'{path} {fault}: install mmspike again (in a clone: git checkout {path.name})')
    return path
