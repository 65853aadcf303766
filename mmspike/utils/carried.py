"""Folders beside the package: in a clone at its root, in an installed wheel in ``mmspike/.mim``."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def carried(name: str) -> Path:
    """The folder ``name`` ('configs' or 'tools') of this clone or wheel.

    Raises:
        FileNotFoundError: There is none: the installation is broken.
    """
    for root in (PACKAGE.parent, PACKAGE / '.mim'):
        if (root / 'model-index.yml').is_file():
            return root / name
    raise FileNotFoundError(f'no {name} beside {PACKAGE} and none in {PACKAGE / ".mim"}: install mmspike again')
