"""For programs that import a host before mmspike: what the host put in the place of mmcv's operators is replaced by them.

mmdet, mmseg, mmpretrain and mmcv itself write, at the top of their modules, ``try: from mmcv.ops import X`` and define an X
that raises, or None, where that fails. Such a module stays without the operator although ``mmcv.ops`` can be imported later.
"""

import ast
import importlib
import sys
import warnings
from collections.abc import Iterator
from typing import Any

LOOKING = ('mmcv', 'mmdet', 'mmseg', 'mmpretrain')
#: where they take operators from; the second has one of the first
SOURCES = ('mmcv.ops', 'mmcv.cnn.bricks.transformer')


def attempts(source: str) -> Iterator[ast.ImportFrom]:
    """The imports of operators that stand in a ``try`` at the top of a module."""
    if not any(name in source for name in SOURCES):
        return
    for statement in ast.parse(source).body:
        for line in statement.body if isinstance(statement, ast.Try) else ():
            if isinstance(line, ast.ImportFrom) and not line.level and (line.module or '').startswith(SOURCES):
                yield line


def find_late_modules() -> list[tuple[str, ast.ImportFrom]]:
    """Names of imported modules that looked for operators in vain, and their imports; mmcv's come first."""
    if 'mmcv.ops' in sys.modules:
        return []
    names = [name for name in sorted(sys.modules) if name.partition('.')[0] in LOOKING]
    loaders: list[tuple[str, Any]] = [(name, getattr(sys.modules[name].__spec__, 'loader', None)) for name in names]
    sources = [(name, loader.get_source(name)) for name, loader in loaders if hasattr(loader, 'get_source')]
    return [(name, line) for name, source in sources if source for line in attempts(source)]


def replace_placeholders() -> None:
    """Give the operators to the modules that were imported too early for them; does nothing where there are none.

    Warns if models are among these: a class that one host derives from another host's, such as mmseg's ``Mask2FormerHead``,
    was made without it, and stays so.
    """
    late = find_late_modules()
    for name, line in late:
        module: Any = importlib.import_module(line.module or '')
        for alias in line.names:
            setattr(sys.modules[name], alias.asname or alias.name, getattr(module, alias.name))
    hosts = sorted({name.partition('.')[0] for name, _ in late if '.models.' in name})
    if hosts:
        warnings.warn(
            f'mmspike was imported after models of {", ".join(hosts)}, which found no operators of mmcv: they have them now, '
            "but what a host derives from another host's models (mmseg's Mask2FormerHead) does not work. Import mmspike first",
            stacklevel=4,
        )
