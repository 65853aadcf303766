"""A backbone in a word of a command line."""

import re
from difflib import get_close_matches

from mmengine.registry import MODELS as ROOT_MODELS

from mmspike.config.literals import read_literal
from mmspike.models.backbones.base import SpikingBackbone
from mmspike.registry import MODELS
from mmspike.utils.errors import UserError


class SwapError(UserError, ValueError):
    """A config that cannot be swapped, and why."""


def _registered(name: str) -> str:
    """The name of a backbone with its prefix.

    Raises:
        SwapError: There is no such type; the nearest ones are named.
    """
    MODELS.import_from_location()
    backbones = [key for key, cls in MODELS.module_dict.items() if isinstance(cls, type) and issubclass(cls, SpikingBackbone)]
    scope, _, bare = name.rpartition('.')
    if bare in backbones and scope in ('', 'mmspike'):
        return f'mmspike.{bare}'
    if scope not in ('', 'mmspike') or name in ROOT_MODELS.module_dict:
        return name  # of a package of the user's
    near = get_close_matches(bare, backbones, 2, 0.5) or sorted(backbones)
    raise SwapError(f'--backbone: there is no backbone {name}, did you mean {" or ".join(f"mmspike.{n}" for n in near)}?')


def parse_backbone(text: str) -> dict:
    """A backbone's config from ``TYPE[:ARCH][,KEY=VALUE]...``.

    Values are Python literals or ``dict(...)``.

    Raises:
        SwapError: The text has another form.

    Example:
        >>> parse_backbone('mmspike.MetaSpikeFormer:15m,T=2')
        {'type': 'mmspike.MetaSpikeFormer', 'arch': '15m', 'T': 2}
    """
    match = re.fullmatch(r'\s*([A-Za-z_][\w.]*)(?::([\w.-]+))?(?:,(.*))?', text, re.DOTALL)
    form = 'expected TYPE[:ARCH][,KEY=VALUE]..., such as mmspike.ESpikeFormer:m or "mmspike.MetaSpikeFormer:15m,T=2"'
    if match is None:
        raise SwapError(f'--backbone {text}: {form}')
    name, arch, rest = match.groups()
    try:
        arguments = read_literal(f'dict({rest or ""})')
    except ValueError as error:
        raise SwapError(f'--backbone {text}: {form}; values are Python literals, strings in quotes ({error})') from None
    name = _registered(name)
    if arch is not None and 'arch' in arguments or 'type' in arguments:
        raise SwapError(f'--backbone {text}: type and arch are given twice')
    return dict(type=name, **({} if arch is None else dict(arch=arch)), **arguments)
