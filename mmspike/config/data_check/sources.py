"""The data sets of a config, without wrappers, each as an object of its host that has read nothing yet."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS, init_default_scope

from mmspike.config.data_paths import LOADERS


@dataclass
class Source:
    """A data set as the config has it.

    Attributes:
        place: Its key in the config, of several loaders that share it the first one's.
        training: The loader is that of training.
        cfg: Its config.
        cls: Its class; None where the type is not registered.
        dataset: The object, which has joined its paths and merged its names of classes, and has read no file (classes and
            methods of the host decide what the data are). None where that is not possible.
        problem: Why not.
        broken: The run cannot make it, either.
        named: The config, or its class, names the classes; else they are those of the folders or of the file.
        outputs: Classes of the smallest head, where the model has one.
    """

    place: str
    training: bool
    cfg: dict
    cls: Any = None
    dataset: Any = None
    problem: str = ''
    broken: bool = False
    named: bool = False
    outputs: int | None = None

    @property
    def name(self) -> str:
        """The type, without scope."""
        return self.cls.__name__ if self.cls else str(self.cfg.get('type')).rsplit('.', 1)[-1]

    @property
    def classes(self) -> list[str] | None:
        """Names of the classes in the order of their labels, as far as they are known before a file is read."""
        meta = getattr(self.dataset, 'metainfo', None) or {}
        classes = meta.get('classes')
        return list(classes) if isinstance(classes, list | tuple) else None

    @property
    def pipeline(self) -> list[dict]:
        """Its transforms, with those inside of others (RandomChoice, TestTimeAug)."""
        return list(transforms(self.cfg.get('pipeline') or ()))

    def transform(self, *names: str) -> dict | None:
        """The first transform of its pipeline whose type, without scope, is one of ``names``."""
        for transform in self.pipeline:
            given = transform['type']
            if (given if isinstance(given, str) else given.__name__).rsplit('.', 1)[-1] in names:
                return transform
        return None


@contextmanager
def hushed() -> Iterator[None]:
    """Without the warnings of data sets: the check says what it finds, and the run will say the same again."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def transforms(item: Any) -> Iterator[dict]:
    """Every transform in a pipeline, nested ones behind those that hold them."""
    if isinstance(item, list | tuple):
        for child in item:
            yield from transforms(child)
    elif isinstance(item, dict):
        if 'type' in item:
            yield item
        for child in item.values():
            if isinstance(child, list | tuple | dict):
                yield from transforms(child)


def _innermost(item, place: str) -> Iterator[tuple[str, dict]]:
    if isinstance(item, list | tuple):
        for number, child in enumerate(item):
            yield from _innermost(child, f'{place}.{number}')
    elif isinstance(item, dict):
        inner = [key for key in ('dataset', 'datasets') if isinstance(item.get(key), dict | list | tuple)]
        for key in inner:
            yield from _innermost(item[key], f'{place}.{key}')
        if not inner:
            yield place, item


def _build(source: Source) -> None:
    """Set ``cls`` and ``dataset``. Nothing is loaded: the data set is initialised lazily, with an empty pipeline."""
    given = source.cfg.get('type')
    with DATASETS.switch_scope_and_registry(None) as registry:
        source.cls = registry.get(given) if isinstance(given, str) else given
    if not isinstance(source.cls, type) or not issubclass(source.cls, BaseDataset):
        source.problem = 'it is no mmengine data set' if source.cls else 'the type is not registered'
        return
    arguments = {key: value for key, value in source.cfg.items() if key not in ('type', '_scope_', 'pipeline')}
    arguments |= dict(pipeline=[], lazy_init=True)
    try:
        with hushed():
            source.dataset = source.cls(**arguments)
    except Exception as error:  # whatever the constructor of any data set raises; the run will raise it, too
        source.problem = f'{type(error).__name__}: {error}'[:400]
        # a TypeError may be about the arguments that are added here
        source.broken = isinstance(error, ValueError | OSError | AssertionError) or (
            isinstance(error, TypeError) and 'argument' not in str(error)
        )
        return
    source.named = source.classes is not None


def find_sources(cfg: Config, loaders: Sequence[str] = LOADERS) -> list[Source]:
    """The data sets of ``loaders``; one that several loaders have (mostly validation and test) once."""
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    found: list[Source] = []
    for loader in loaders:
        if not isinstance(cfg.get(loader), dict):
            continue
        for place, item in _innermost(cfg[loader].get('dataset'), loader):
            same = [s for s in found if s.cfg == item and not s.training and not loader.startswith('train')]
            if not same:
                found.append(Source(place, loader.startswith('train'), item))
    for source in found:
        _build(source)
    return found
