"""Imports between the packages of mmspike point one way."""

import ast

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
