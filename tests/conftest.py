"""Fixtures that all tests share."""

import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import set_random_seed

import mmspike  # noqa: F401  (before a test imports a host, which may need the operators that it brings)

REPO = Path(__file__).resolve().parents[1]
SHARED = REPO.parent / 'shared'
LONG = ('tools', 'docs', 'usage', 'configs', 'config', 'utils')  # folders whose files take longest

# Where there is no GPU, a fake tensor makes PyTorch believe in one; a first backward pass after it starts a thread, and no
# forked process can run a backward pass any more. The first one is here.
torch.ones(1, requires_grad=True).sum().backward()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, so that no worker is left with one of them at the end."""

    def place(item: pytest.Item) -> int:
        folder = item.path.relative_to(REPO / 'tests').parts[0]
        return LONG.index(folder) if folder in LONG else len(LONG)

    items.sort(key=place)


@pytest.fixture(scope='session')
def repo() -> Path:
    """Root of the repository."""
    return REPO


@pytest.fixture(scope='session')
def shared() -> Path:
    """Folder of reference outputs and small real data beside the repository; skips where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f'needs the folder of reference data {SHARED}')
    return SHARED


@pytest.fixture
def run_tool(monkeypatch, capsys) -> Callable[..., SimpleNamespace]:
    """Run a script of tools/ in this process, as its command line would: ``run_tool('test.py', config, …)``.

    The result has ``returncode``, ``stdout`` and ``stderr``.
    """

    def run(script: str, *args) -> SimpleNamespace:
        path = str(REPO / 'tools' / script)
        monkeypatch.setattr(sys, 'argv', [path, *map(str, args)])
        monkeypatch.setattr(sys, 'path', list(sys.path))
        capsys.readouterr()
        code = message = 0
        try:
            runpy.run_path(path, run_name='__main__')
        except SystemExit as e:
            code = message = e.code or 0
        captured = capsys.readouterr()
        if isinstance(code, str):
            code = 1
        stderr = captured.err + (message if isinstance(message, str) else '')
        return SimpleNamespace(returncode=code, stdout=captured.out, stderr=stderr)

    return run


@pytest.fixture(autouse=True)
def _seed() -> None:
    set_random_seed(0)


@pytest.fixture(autouse=True)
def _default_scope():
    """The default scope and the loggers, which hold the captured stdout, are global: no test hands its own on to the next."""
    yield
    DefaultScope._instance_dict.clear()
    MMLogger._instance_dict.clear()
