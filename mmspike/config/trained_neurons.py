"""Neurons and time steps of a config that are others than those that a checkpoint was trained with."""

import warnings
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from mmspike.config.difference import config_difference
from mmspike.config.recorded import read_recorded

#: settings that say how a neuron counts, and how often; weights have the same shapes whatever they are
COUNTING = ('T', 'neuron')
#: arguments of neurons that older checkpoints record under other names
RENAMED = dict(norm='divisor')


def _counting(model: Any, other: Any) -> dict:
    """The settings of neurons in a model's config, nested as there, where ``other`` has them, too."""
    if not (isinstance(model, Mapping) and isinstance(other, Mapping)):
        return {}
    found = {}
    for key in (key for key in model if key in other):
        if key in COUNTING:
            value = model[key]
            found[key] = {RENAMED.get(k, k): v for k, v in value.items()} if isinstance(value, Mapping) else value
        elif inner := _counting(model[key], other[key]):
            found[key] = inner
    return found


def name_changed_neurons(cfg: Config, meta: Mapping, path: str) -> None:
    """Warn of the neurons and time steps of ``cfg.model`` that are others than in the config which the checkpoint records.

    Another D, threshold or T gives another function of the same weights, which nothing else would tell: they fit.

    Args:
        meta: The ``meta`` of the checkpoint ``path``; without a config in it nothing is said.
    """
    try:
        old, new = read_recorded(meta['cfg'])['model'], cfg.model.to_dict()
    except (KeyError, ValueError, TypeError):
        return
    old, new = _counting(old, new), _counting(new, old)
    if old != new:
        changed = config_difference(Config(dict(model=old)), Config(dict(model=new)))
        warnings.warn(
            f'{path} was trained with other neurons or time steps (-) than the config has (+); with these the same weights '
            f'compute something else:\n{changed}',
            stacklevel=2,
        )
