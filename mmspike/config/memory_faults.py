"""Memory that runs out, explained: which settings of the config need less."""

import errno
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from mmengine.config import Config

from mmspike.config.config_faults import default_number
from mmspike.models.backbones.base import SpikingBackbone
from mmspike.registry import MODELS

# what PyTorch and the libraries below it say where they raise no error of its own type
OUT_OF_MEMORY = re.compile(
    'out of memory|not enough memory|can.t allocate memory|cannot allocate memory|unable to allocate|_ALLOC_FAILED|bad_alloc',
    re.IGNORECASE,
)


def is_out_of_memory(error: BaseException) -> bool:
    """True for an allocation that failed, on a GPU, on the CPU, or in a process of a data loader.

    Example:
        >>> is_out_of_memory(torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB.'))
        True
    """
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and OUT_OF_MEMORY.search(str(error)) is not None


def memory_advice(cfg: Config, error: Exception, loaders: Sequence[str]) -> str | None:
    """Advice on an allocation that failed; None for any other error.

    Args:
        cfg: The config that ran. What it does already is not advised.
        loaders: Its loaders that were read; with 'train_dataloader' it was trained.
    """
    if not is_out_of_memory(error):
        return None
    said = str(error).strip() or type(error).__name__
    advice: list[str] = []
    if 'DataLoader worker' in said or isinstance(error, OSError):  # whose message has the whole traceback
        said = said.splitlines()[-1]
        advice += [f'fewer processes that load data: --cfg-options {loader}.num_workers=1' for loader in loaders[:1]]
    advice += _training_advice(cfg) if 'train_dataloader' in loaders else _test_advice(cfg, loaders)
    return '\n  '.join([f'There is not enough memory: {said}', 'Less is needed with', *(f'- {line}' for line in advice)])


def _training_advice(cfg: Config) -> Iterator[str]:
    wrapper = cfg.get('optim_wrapper') or {}
    batch, counts = _batch(cfg, 'train_dataloader'), wrapper.get('accumulative_counts', 1)
    if batch > 1:
        yield (
            f'a smaller batch, now {batch} images a process: --cfg-options train_dataloader.batch_size={batch // 2}; with '
            f'optim_wrapper.accumulative_counts={2 * counts} the optimizer sees as many as before'
        )
    backbones = list(_spiking_backbones(cfg.get('model'), 'model'))
    for place, backbone in backbones:
        if not backbone.get('with_cp'):
            yield f'blocks that are computed anew in the backward pass: --cfg-options {place}.with_cp=True'
    if 'Amp' not in str(wrapper.get('type')):
        yield 'mixed precision: --amp'
    yield from _steps_advice(backbones)
    yield 'smaller images: Resize or a crop in the pipeline of train_dataloader'


def _test_advice(cfg: Config, loaders: Sequence[str]) -> Iterator[str]:
    for loader in loaders:
        if _batch(cfg, loader) > 1:
            yield f'fewer images at once, now {_batch(cfg, loader)}: --cfg-options {loader}.batch_size=1'
    yield 'mixed precision, where the command has it: --amp'
    yield from _steps_advice(list(_spiking_backbones(cfg.get('model'), 'model')))
    yield 'smaller images: Resize in the pipeline of the data set'


def _steps_advice(backbones: list[tuple[str, Mapping]]) -> Iterator[str]:
    for place, backbone in backbones:
        T = backbone.get('T') or default_number(_class(backbone), 'T')
        if T is not None and T > 1:
            yield f'fewer time steps, now {T}; this is another network, to be trained anew: --cfg-options {place}.T={T // 2}'


def _batch(cfg: Config, loader: str) -> int:
    settings = cfg.get(loader)
    return settings.get('batch_size') or 1 if isinstance(settings, Mapping) else 1


def _class(item: Mapping) -> Any:
    given = item.get('type')
    return MODELS.get(given) if isinstance(given, str) and given.startswith('mmspike.') else given


def _spiking_backbones(item: Any, place: str) -> Iterator[tuple[str, Mapping]]:
    """The spiking backbones in a model's config, with their places."""
    if isinstance(item, Mapping):
        cls = _class(item)
        if isinstance(cls, type) and issubclass(cls, SpikingBackbone):
            yield place, item
        for key, value in item.items():
            yield from _spiking_backbones(value, f'{place}.{key}')
    elif isinstance(item, list | tuple):
        for i, value in enumerate(item):
            yield from _spiking_backbones(value, f'{place}.{i}')
