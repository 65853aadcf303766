"""Python literals of a command line, in which dicts may be written as calls."""

import ast
from typing import Any


def read_literal(text: str) -> Any:
    """The value of ``text``: a Python literal, with ``dict(type='LIF')`` for ``{'type': 'LIF'}`` anywhere in it.

    Raises:
        ValueError: It is not a literal.
    """
    try:
        return _value(ast.parse(text.strip(), mode='eval').body)
    except SyntaxError as error:
        raise ValueError(f'{text} is no Python literal ({error.msg})') from None


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict' and not node.args:
        return {keyword.arg: _value(keyword.value) for keyword in node.keywords if keyword.arg}
    if isinstance(node, ast.List):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(item) for item in node.elts)
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {_value(key): _value(value) for key, value in zip(node.keys, node.values, strict=True) if key}
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise ValueError(f'{ast.unparse(node)} is no Python literal') from None
