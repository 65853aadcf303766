"""Fixtures that all tests share."""

from pathlib import Path

import pytest
import torch

REPO = Path(__file__).resolve().parents[1]
SHARED = REPO.parent / 'shared'


@pytest.fixture
def repo() -> Path:
    """Root of the repository."""
    return REPO


@pytest.fixture
def shared() -> Path:
    """Folder of reference outputs and small real data beside the repository; skips where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f'needs the folder of reference data {SHARED}')
    return SHARED


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
