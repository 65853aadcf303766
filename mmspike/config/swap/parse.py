"""A backbone in a word of a command line."""

import ast
import re
from typing import Any

from mmspike.utils.errors import UserError


class SwapError(UserError, ValueError):
    """A config that cannot be swapped, and why."""


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
