"""Names of what a package registers, written once: at the class. ``__all__``, placeholders and the API pages read them here."""

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

PACKAGE = Path(__file__).resolve().parents[1]


class Registered(NamedTuple):
    """A class of the package, its module, and the name of the registry that it is in."""

    name: str
    module: str
    registry: str


def registered(module: str) -> list[Registered]:
    """The classes with ``@REGISTRY.register_module()`` in a module or in the modules of a package, by name.

    Their sources are read and not imported, since they may need a host library that is missing.

    Args:
        module: Within ``mmspike``, such as ``mmspike.models.necks``.

    Example:
        >>> from mmspike.utils.registered import registered
        >>> [r.name for r in registered('mmspike.models.pretraining')]
        ['SpikeMAE', 'SpikeMAEDecoder']
    """
    path = PACKAGE.joinpath(*module.split('.')[1:])
    files = sorted(path.glob('*.py')) if path.is_dir() else [path.with_suffix('.py')]
    return sorted(found for file in files for found in _in_file(file))


def _in_file(file: Path) -> Iterator[Registered]:
    module = '.'.join([PACKAGE.name, *file.relative_to(PACKAGE).with_suffix('').parts])
    for node in ast.parse(file.read_text(encoding='utf-8')).body:
        if isinstance(node, ast.ClassDef):
            for decorator in map(ast.unparse, node.decorator_list):
                if decorator.endswith('.register_module()'):
                    yield Registered(node.name, module, decorator.split('.')[0])


def import_registered(module: str, namespace: dict[str, Any]) -> list[str]:
    """Import what a package registers into its ``namespace``; return the names."""
    found = registered(module)
    namespace.update({r.name: getattr(import_module(r.module), r.name) for r in found})
    return [r.name for r in found]
