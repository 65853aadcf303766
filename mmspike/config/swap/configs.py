"""Configs by name, backbones from a command line, and the difference of two configs."""

import ast
import importlib.util
import os.path as osp
import re
import traceback
from typing import Any

from mmengine.config import Config

HOSTS = ('mmdet', 'mmseg', 'mmpretrain')


class SwapError(ValueError):
    """A config that cannot be swapped, and why."""


def describe(error: Exception) -> str:
    """An exception in a line; one without message, as of the hosts' assertions, by the statement that raised it."""
    message = str(error)
    if not message:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        message = f'"{frame.line}" in {frame.name}'
    return f'{type(error).__name__}: {message}'


def kind(cfg: dict) -> str:
    """The ``type`` of a module's config without scope: 'FPN' of 'mmdet.FPN' or of the class itself."""
    name = cfg.get('type', '')
    return name.rsplit('.', 1)[-1] if isinstance(name, str) else name.__name__


def config_path(config: str) -> str:
    """The file of a config given as a path, or as a name such as 'mmseg::fcn/fcn_r50-d8_4xb2-40k_cityscapes-512x1024.py'.

    A name is looked up among the configs that the installed host carries, by the name under which it is imported. (mmengine
    looks for the distribution, whose name differs between releases.)

    Raises:
        SwapError: No such host, or no such config.
    """
    if '::' not in config:
        if not osp.isfile(config):
            raise SwapError(f'config {config} does not exist')
        return config
    host, _, name = config.partition('::')
    spec = importlib.util.find_spec(host) if host in HOSTS else None
    if spec is None or spec.origin is None:
        problem = 'is not installed' if host in HOSTS else f'is none of {", ".join(HOSTS)}'
        raise SwapError(f'config {config}: {host} {problem}')
    folder = osp.join(osp.dirname(spec.origin), '.mim', 'configs')
    path = osp.join(folder, *name.split('/'))
    if not osp.isfile(path):
        raise SwapError(f'config {config} does not exist: {host} has no {name} in its configs ({folder})')
    return path


def _value(node: ast.expr) -> Any:
    """A literal; dicts may be written as calls, dict(type='LIF')."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict' and not node.args:
        return {keyword.arg: _value(keyword.value) for keyword in node.keywords if keyword.arg}
    return ast.literal_eval(node)


def parse_backbone(text: str) -> dict:
    """A backbone's config from ``TYPE[:ARCH][,KEY=VALUE]...``.

    ``'mmspike.MetaSpikeFormer:15m,T=2'`` is ``dict(type='mmspike.MetaSpikeFormer', arch='15m', T=2)``. Values are Python
    literals or ``dict(...)``.

    Raises:
        SwapError: The text has another form.
    """
    match = re.fullmatch(r'\s*([A-Za-z_][\w.]*)(?::([\w.-]+))?(?:,(.*))?', text, re.DOTALL)
    form = 'expected TYPE[:ARCH][,KEY=VALUE]..., such as mmspike.ESpikeFormer:m or "mmspike.MetaSpikeFormer:15m,T=2"'
    if match is None:
        raise SwapError(f'--backbone {text}: {form}')
    name, arch, rest = match.groups()
    try:
        arguments = _value(ast.parse(f'dict({rest or ""})', mode='eval').body)
    except (SyntaxError, ValueError) as error:
        raise SwapError(f'--backbone {text}: {form}; values are Python literals, strings in quotes ({error})') from None
    if arch is not None and 'arch' in arguments or 'type' in arguments:
        raise SwapError(f'--backbone {text}: type and arch are given twice')
    return dict(type=name, **({} if arch is None else dict(arch=arch)), **arguments)


def _difference(before: Any, after: Any, path: str) -> list[str]:
    """Changed keys of two nested settings; a module that is replaced by one of other arguments is shown whole."""
    if before == after:
        return []
    dicts = isinstance(before, dict) and isinstance(after, dict)
    if dicts and (before.get('type') == after.get('type') or before.keys() <= after.keys()):
        lines = []
        for key in [*before, *(k for k in after if k not in before)]:
            name = f'{path}.{key}' if path else key
            if key in before and key in after:
                lines += _difference(before[key], after[key], name)
            else:
                lines.append(f'- {name} = {before[key]!r}' if key in before else f'+ {name} = {after[key]!r}')
        return lines
    lists = isinstance(before, list) and isinstance(after, list)
    if lists and len(before) == len(after) and any(isinstance(item, dict) for item in before):
        pairs = zip(before, after, strict=True)
        return [line for i, pair in enumerate(pairs) for line in _difference(*pair, f'{path}[{i}]')]
    return [f'- {path} = {before!r}', f'+ {path} = {after!r}']


def config_difference(old: Config, new: Config) -> str:
    """The changed settings, one a line: ``- key = value`` as it was, ``+ key = value`` as it is."""
    return '\n'.join(_difference(old.to_dict(), new.to_dict(), ''))
