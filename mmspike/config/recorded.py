"""The config that a checkpoint records, read without running it."""

import ast
import re
from typing import Any


class Expression(str):
    """A value of a config that is more than data: its text."""

    __slots__ = ()


def read_recorded(text: str) -> dict[str, Any]:
    """The settings in ``text``, a config as mmengine prints it: values and ``dict(...)``, assigned to names.

    Checkpoints hold their config in this form (``meta['cfg']``). mmengine reads it by running it, which a stranger's file must
    not be. What is not a plain value, such as a call, is an :class:`Expression`, and so is a whole setting that is
    not Python: mmengine prints a date as ``2024-05-01``.

    Raises:
        ValueError: ``text`` has no settings.

    Example:
        >>> read_recorded("model = dict(type='A', depths=(1, 2))")
        {'model': {'type': 'A', 'depths': (1, 2)}}
    """
    settings: dict[str, Any] = {}
    for setting in re.split(r'^(?=[^\W\d]\w* = )', text, flags=re.MULTILINE)[1:]:
        name, value = setting.split(' = ', 1)
        try:
            settings[name] = _value(ast.parse(value.strip(), mode='eval').body)
        except SyntaxError:
            settings[name] = Expression(value.strip())
    if not settings:
        raise ValueError(f'no config: {text[:60]!r}')
    return settings


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant():
            return node.value
        case ast.List():
            return [_value(item) for item in node.elts]
        case ast.Tuple():
            return tuple(_value(item) for item in node.elts)
        case ast.Dict() if all(key is not None for key in node.keys):
            return {_key(key): _value(item) for key, item in zip(node.keys, node.values, strict=True)}
        case ast.Call(func=ast.Name(id='dict'), args=[]) if all(item.arg is not None for item in node.keywords):
            return {item.arg: _value(item.value) for item in node.keywords}
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
    return Expression(ast.unparse(node))


def _key(node: ast.expr | None) -> Any:
    assert node is not None
    key = _value(node)
    return key if not isinstance(key, list | dict) else Expression(ast.unparse(node))
