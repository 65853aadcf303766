"""Presets of all backbones, found by name."""

from difflib import get_close_matches
from fnmatch import fnmatchcase

from mmspike.registry import MODELS
from mmspike.utils.errors import UserError

from .backbones.base import SpikingBackbone


class UnknownArchError(UserError, ValueError):
    """No backbone has a preset of this name; the message has the nearest ones."""


def _presets() -> dict[str, str]:
    """Preset -> name of its backbone, of all that are registered."""
    registered = MODELS.module_dict.items()
    classes = {name: cls for name, cls in registered if isinstance(cls, type) and issubclass(cls, SpikingBackbone)}
    return {arch: name for name, cls in classes.items() for arch in cls.arch_settings}


def list_archs(pattern: str = '*') -> list[str]:
    """Names of the presets of all backbones, sorted.

    Args:
        pattern: Wildcards ``*``, ``?`` and ``[...]``, as ``timm.list_models`` takes them; upper and lower case are the same.

    Example:
        >>> import mmspike
        >>> mmspike.list_archs('espikeformer-?')
        ['espikeformer-l', 'espikeformer-m', 'espikeformer-s', 'espikeformer-t']
    """
    return sorted(arch for arch in _presets() if fnmatchcase(arch, pattern.lower()))


def get_arch(name: str) -> dict:
    """The backbone of a preset as a config: for ``model.backbone``, or for ``mmspike.registry.MODELS.build``.

    Raises:
        UnknownArchError: No backbone has it.

    Example:
        >>> import mmspike
        >>> mmspike.get_arch('metaspikeformer-15m')
        {'type': 'mmspike.MetaSpikeFormer', 'arch': 'metaspikeformer-15m'}
    """
    presets = _presets()
    if name.lower() not in presets:
        near = get_close_matches(name.lower(), presets, 5, 0.3) or sorted(presets)
        raise UnknownArchError(f"no backbone has the arch '{name}'; near are {', '.join(near)}. All: mmspike.list_archs()")
    return dict(type=f'mmspike.{presets[name.lower()]}', arch=name.lower())
