"""The examples in docstrings are run, and give what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / 'mmspike'
# their examples read files of the reader
FILES = {'config/data_check/check.py', 'datasets/class_folders.py', 'datasets/events/readers.py'}
MODULES = sorted(
    name
    for path in PACKAGE.rglob('*.py')
    if '>>> ' in path.read_text() and (name := str(path.relative_to(PACKAGE))) not in FILES
)


@pytest.mark.parametrize('name', MODULES)
def test_examples(name):
    module = importlib.import_module(f'mmspike.{name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")}')
    result = doctest.testmod(module)
    assert result.attempted and not result.failed, f'{result} in {name}'


def test_there_are_examples():
    assert FILES <= {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob('*.py')} and len(MODULES) >= 10
