"""Imports between the packages of mmspike point one way."""

import ast
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

ROOMS = ('utils', 'kernels', 'ops', 'models', 'datasets', 'engine', 'config', 'analysis', 'deploy', 'apis')


def imports(source: str) -> list[str]:
    """Names of what a file imports, at its head or within functions."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names += [f'{node.module}.{alias.name}' for alias in node.names]
    return names


def test_imports_point_one_way(repo):
    package = repo / 'mmspike'
    assert {p.parent.name for p in package.glob('*/__init__.py')} == set(ROOMS)
    seen, upwards = 0, []
    for i, room in enumerate(ROOMS):
        for path in (package / room).rglob('*.py'):
            for name in imports(path.read_text()):
                target = name.split('.')[1:2]
                seen += name.startswith('mmspike.')
                if name.startswith('mmspike.') and target[0] in ROOMS[i + 1 :]:
                    upwards.append(f'{path.relative_to(repo)} imports {name}')
    assert seen > 300 and not upwards, upwards


def test_no_name_hides_a_module():
    """``import mmspike.deploy.fusing as m`` gives the module, whatever else the package offers."""
    seen = 0
    for room in ROOMS:
        for package in (
            f'mmspike.{room}',
            *(m.name for m in iter_modules(import_module(f'mmspike.{room}').__path__, f'mmspike.{room}.') if m.ispkg),
        ):
            package = import_module(package)
            for module in iter_modules(package.__path__):
                seen += 1
                assert isinstance(getattr(package, module.name, package), ModuleType), f'{package.__name__}.{module.name}'
    assert seen > 100
