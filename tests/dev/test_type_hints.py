"""Every public function and method has type hints, so that ``make types`` has something to check."""

import ast
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def unannotated(source):
    """Names of public functions and methods, ``__init__`` included, that lack a hint of a parameter or of the result.

    Not looked at: what starts with an underscore or is in a class that does, functions in functions, and ``*args`` and
    ``**kwargs``, which are handed on.
    """
    missing = []

    def visit(body, prefix, method):
        for node in body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith('_'):
                visit(node.body, f'{prefix}{node.name}.', True)
            if not isinstance(node, ast.FunctionDef) or node.name.startswith('_') and node.name != '__init__':
                continue
            decorators = {d.id for d in node.decorator_list if isinstance(d, ast.Name)}
            parameters = [*node.args.posonlyargs, *node.args.args]
            parameters = parameters[1:] if method and 'staticmethod' not in decorators else parameters
            hints = [p.annotation for p in (*parameters, *node.args.kwonlyargs)] + [node.returns]
            if None in hints:
                missing.append(prefix + node.name)

    visit(ast.parse(source).body, '', False)
    return missing


def test_public_functions_have_type_hints():
    files = sorted((REPOSITORY / 'mmspike').rglob('*.py'))
    files = [file for file in files if '.mim' not in file.parts and file.name != 'gpu.py']  # kernels in Triton's dialect
    assert len(files) > 100
    missing = {file.relative_to(REPOSITORY).as_posix(): names for file in files if (names := unannotated(file.read_text()))}
    assert not missing, missing


@pytest.mark.parametrize(
    ('source', 'missing'),
    [
        ('def f(x: int, *args, y: int = 0, **kwargs) -> int: ...', []),
        ('def f(x) -> int: ...', ['f']),
        ('def f(x: int, *, y) -> int: ...', ['f']),
        ('def f(x: int): ...', ['f']),
        ('def _f(x): ...\nclass _C:\n    def f(self, x): ...', []),
        ('class C:\n    def __init__(self, x): ...\n    def f(self) -> int: ...', ['C.__init__']),
        ('class C:\n    @staticmethod\n    def f(x) -> int: ...', ['C.f']),
        ('class C:\n    @classmethod\n    def f(cls) -> int: ...', []),
    ],
)
def test_what_counts(source, missing):
    assert unannotated(source) == missing


def test_mypy_checks_the_whole_package():
    settings = tomllib.loads((REPOSITORY / 'pyproject.toml').read_text())['tool']['mypy']
    assert settings['packages'] == ['mmspike'] and settings['check_untyped_defs']
    assert not {'exclude', 'ignore_errors', 'disable_error_code'} & set(settings)
    assert not any('ignore_errors' in override for override in settings['overrides'])
    assert (REPOSITORY / 'mmspike' / 'py.typed').exists()
