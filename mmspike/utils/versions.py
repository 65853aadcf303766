"""Installed packages against the ranges that mmspike declares: :mod:`mmspike.registry` checks them when it is imported.

The ranges are written once, in ``requirements/*.txt``; they are read here from the metadata of the installed mmspike, to which
``setup.py`` copies them. A clone that is used without being installed has no metadata, and nothing is checked.
"""

import warnings
from importlib.metadata import PackageNotFoundError, requires, version
from typing import TYPE_CHECKING

from mmspike.utils.collect_env import ORIGINALS, install_command
from mmspike.utils.errors import UserError
from mmspike.version import __version__

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

REQUIRED = ('torch', 'onedl-mmengine', 'onedl-mmcv')
#: a task or a neuron needs them, mmspike does not
OPTIONAL = ('onedl-mmdetection', 'onedl-mmsegmentation', 'onedl-mmpretrain', 'spikingjelly')


class VersionError(UserError):
    """A required package is out of range.

    Not an ImportError, which mmengine turns into a log line where it imports mmspike for a config.
    """


def declared_ranges() -> dict[str, 'SpecifierSet']:
    """What mmspike's metadata say about each package, extras included, by name; empty without metadata."""
    try:
        lines = requires('mmspike') or []
    except PackageNotFoundError:
        return {}
    from packaging.requirements import Requirement  # not at the top: collect_env has to work where it is missing

    requirements = [Requirement(line) for line in lines]
    return {r.name: r.specifier for r in requirements}


def find_version(name: str) -> tuple[str, str] | None:
    """Name and version of the distribution ``name``, or of the open-mmlab one with the same import package; None: neither."""
    for candidate in (name, *ORIGINALS.get(name, ())):
        try:
            return candidate, version(candidate)
        except PackageNotFoundError:
            continue
    return None


def _contains(wanted: 'SpecifierSet', number: str) -> bool:
    """Local parts and pre-release marks do not count: 2.11.0+cu130 is 2.11.0, and 2.6.0a0 of a vendor's image is 2.6.0."""
    from packaging.version import Version

    return wanted.contains(Version(number).base_version)


def find_out_of_range(names: tuple[str, ...]) -> dict[str, str]:
    """Installed distribution that is out of range -> an explanation with the command that mends it."""
    found = {name: pair for name in names if (pair := find_version(name))}
    ranges = declared_ranges() if found else {}
    faults: dict[str, str] = {}
    for name, (installed, number) in found.items():
        if name in ranges and not _contains(ranges[name], number):
            line = '' if installed == name else ' of the original open-mmlab line, which is not tested,'
            remove = '' if installed == name else f'    pip uninstall -y {installed}\n'
            faults[installed] = (
                f'{installed} {number}{line} is installed, but mmspike {__version__} needs {name}{ranges[name]}. Repair:\n'
                f'{remove}    {install_command(name)}'
            )
    return faults


def find_unusable() -> list[str]:
    """The explanations for torch, onedl-mmengine and onedl-mmcv, without which nothing works."""
    return [text for name, text in find_out_of_range(REQUIRED).items() if name in REQUIRED]


def check_versions() -> None:
    """Compare all packages with their ranges.

    An optional package, and one of the original open-mmlab line, whose numbers are others, is a RuntimeWarning.

    Raises:
        VersionError: torch, onedl-mmengine or onedl-mmcv is out of range.
    """
    if unusable := find_unusable():
        raise VersionError('\n'.join(unusable))
    for text in find_out_of_range((*REQUIRED, *OPTIONAL)).values():
        warnings.warn(text, RuntimeWarning, stacklevel=2)
