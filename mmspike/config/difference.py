"""The difference of two configs."""

from typing import Any

from mmengine.config import Config


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
    """The changed settings, one a line: ``- key = value`` as it was, ``+ key = value`` as it is.

    Example:
        >>> print(config_difference(Config(dict(lr=0.1, T=4)), Config(dict(lr=0.2, T=4))))
        - lr = 0.1
        + lr = 0.2
    """
    return '\n'.join(_difference(old.to_dict(), new.to_dict(), ''))
