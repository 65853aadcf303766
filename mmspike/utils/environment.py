"""The packages that mmspike knows, in one table, and their installed versions against the ranges that mmspike declares.

The ranges are written once, in ``requirements/*.txt``; they are read here from the metadata of the installed mmspike, to which
``setup.py`` copies them. A clone that is used without being installed has no metadata, and nothing is checked.
:mod:`mmspike.registry` checks them when it is imported. Only the standard library is imported here.
"""

import re
import warnings
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distributions, requires, version
from importlib.util import find_spec
from typing import TYPE_CHECKING

from mmspike.utils.errors import UserError
from mmspike.version import __version__

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet


@dataclass(frozen=True)
class Package:
    """A row of the table.

    Args:
        name: Distribution, as pip knows it.
        module: Import package.
        tested: Versions that the tests run with, the one of ``requirements/pinned.txt`` first. None: any will do.
        required: mmspike does not work without it. The others serve a task or a neuron.
        originals: Distributions of the original open-mmlab line that install the same import package, or the preceding one.
    """

    name: str
    module: str
    tested: tuple[str, ...] = ()
    required: bool = True
    originals: tuple[str, ...] = ()


PACKAGES = {
    package.name: package
    for package in (
        Package('numpy', 'numpy'),
        Package('packaging', 'packaging'),
        Package('opencv-python-headless', 'cv2'),
        Package('torch', 'torch', ('2.14.1', '2.11.0')),
        Package('torchvision', 'torchvision', ('0.29.1', '0.26.0')),
        Package('onedl-mmcv', 'mmcv', ('2.3.6',), originals=('mmcv', 'mmcv-full', 'mmcv-lite')),
        Package('onedl-mmengine', 'mmengine', ('0.10.12',), originals=('mmengine', 'mmengine-lite')),
        Package('onedl-mmdetection', 'mmdet', ('3.5.1',), required=False, originals=('mmdet',)),
        Package('onedl-mmsegmentation', 'mmseg', ('1.4.2',), required=False, originals=('mmsegmentation',)),
        Package('onedl-mmpretrain', 'mmpretrain', ('1.3.6',), required=False, originals=('mmpretrain', 'mmcls')),
        Package('spikingjelly', 'spikingjelly', ('2.0.0',), required=False),
    )
}
# import package of each host -> its distribution
HOST_PACKAGES = {package.module: package.name for package in PACKAGES.values() if package.originals and not package.required}


class VersionError(UserError):
    """A required package is out of range.

    Not an ImportError, which mmengine turns into a log line where it imports mmspike for a config.
    """


def installed_versions() -> dict[str, str]:
    """Version of every installed distribution by its normalised name; what Python finds first wins."""
    versions: dict[str, str] = {}
    for distribution in distributions():
        name = distribution.metadata['Name']
        if name:  # None: the remains of an interrupted pip
            versions.setdefault(re.sub(r'[-_.]+', '-', name).lower(), distribution.version)
    return versions


def install_command(name: str, number: str | None = None) -> str:
    """The pip command that installs ``name`` in the version ``number``, by default the tested one."""
    package = PACKAGES.get(name)
    number = number or (package.tested[0] if package and package.tested else None)
    # pip's own cache may hold an mmcv whose operators were compiled against another torch
    option = '--no-cache-dir ' if name == 'onedl-mmcv' else ''
    return f'pip install {option}{name}{f"=={number}" if number else ""}'


def declared_ranges() -> dict[str, 'SpecifierSet']:
    """Requirements of mmspike's metadata by package, extras included; empty without metadata.

    Empty also without packaging, which reads them; :mod:`mmspike.utils.collect_env` names it as missing.
    """
    try:
        lines = requires('mmspike') or []
    except PackageNotFoundError:
        return {}
    if find_spec('packaging') is None:
        return {}
    from packaging.requirements import Requirement

    requirements = [Requirement(line) for line in lines]
    return {r.name: r.specifier for r in requirements}


def find_version(name: str) -> tuple[str, str] | None:
    """Name and version of the distribution ``name``, or of the open-mmlab one with the same import package; None: neither."""
    for candidate in (name, *PACKAGES[name].originals):
        try:
            return candidate, version(candidate)
        except PackageNotFoundError:
            continue
    return None


def _contains(wanted: 'SpecifierSet', number: str) -> bool:
    """Local parts and pre-release marks do not count: 2.11.0+cu130 is 2.11.0, and 2.6.0a0 of a vendor's image is 2.6.0."""
    from packaging.version import Version

    return wanted.contains(Version(number).base_version)


def find_out_of_range(names: tuple[str, ...] = tuple(PACKAGES)) -> dict[str, str]:
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
    """The explanations for packages that are required and out of range: nothing works then."""
    required = tuple(name for name, package in PACKAGES.items() if package.required)
    return [text for name, text in find_out_of_range(required).items() if name in required]


def check_versions() -> None:
    """Compare all packages with their ranges.

    An optional package, and one of the original open-mmlab line, whose numbers are others, is a RuntimeWarning.

    Raises:
        VersionError: A required package is out of range.
    """
    if unusable := find_unusable():
        raise VersionError('\n'.join(unusable))
    for text in find_out_of_range().values():
        warnings.warn(text, RuntimeWarning, stacklevel=2)
