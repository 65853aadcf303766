"""Lists what is installed, and what of it does not fit together: ``python -m mmspike.utils.collect_env``.

:func:`check_environment` is the first thing that a tool calls. It has to work in the very environments it complains about, so
this module imports nothing but the standard library at import, reads versions from the packages' metadata, and loads mmcv's
compiled operators by their file, without running mmcv itself.
"""

import contextlib
import importlib
import importlib.machinery
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from mmspike.utils.environment import PACKAGES, find_unusable, install_command, installed_versions
from mmspike.utils.errors import UserError
from mmspike.version import __version__

ORIGINALS = {name: package.originals for name, package in PACKAGES.items() if package.originals}
# One operator of each kind that the hosts' detectors load; a partial build lacks some
OPERATORS = ('nms', 'softnms', 'roi_align_forward', 'sigmoid_focal_loss_forward', 'modulated_deform_conv_forward')


def find_originals(versions: dict[str, str]) -> list[str]:
    """Open-mmlab distributions beside onedl ones: same import packages, one overwrites the other's files."""
    if not any(name in versions for name in ORIGINALS):
        return []
    findings = []
    for onedl, originals in ORIGINALS.items():
        present = [name for name in originals if name in versions]
        if not present:
            continue
        described = ', '.join(f'{name} {versions[name]}' for name in present)
        if onedl in versions:
            others = f'{onedl} {versions[onedl]}, which has files of the same names'
        else:
            others = 'packages of the onedl line (' + ', '.join(name for name in ORIGINALS if name in versions) + ')'
        uninstall = ' '.join([*present, *([onedl] if onedl in versions else [])])
        findings.append(
            f'{described} of the original open-mmlab line is installed next to {others}. '
            f'Only one line can be used. Repair:\n'
            f'    pip uninstall -y {uninstall}\n'
            f'    {install_command(onedl, versions.get(onedl))}'
        )
    return findings


def find_unimportable(versions: dict[str, str]) -> list[str]:
    """Packages that mmspike always needs and that are missing, or that fail on import: numpy, cv2, torch, torchvision."""
    findings = []
    for name, package in PACKAGES.items():
        spec = importlib.util.find_spec(package.module) if package.required else sys.__spec__
        # A folder without __init__.py, as an uninstall can leave it, is found as a namespace package without origin.
        if spec is None or spec.origin is None:
            command = f'pip install {_fitting_torchvision(versions)}' if name == 'torchvision' else install_command(name)
            findings.append(f'{package.module} is not installed. Install it:\n    {command}')
    if findings:
        return findings
    for name in ('numpy', 'opencv-python-headless', 'torch', 'torchvision'):
        module = PACKAGES[name].module
        try:
            importlib.import_module(module)
        except (ImportError, OSError, RuntimeError) as error:  # RuntimeError: torchvision, with a torch that does not fit
            findings.append(f'{module} is installed but does not import: {error}\n{_import_repair(name, str(error), versions)}')
            if name == 'torch':
                break  # torchvision would only repeat it
    return findings


def _fitting_torchvision(versions: dict[str, str]) -> str:
    """Requirement of the torchvision that belongs to the installed torch: 0.21 to torch 2.6, 0.29 to 2.14, and so on."""
    release = re.match(r'2\.(\d+)', versions.get('torch', ''))
    return f'torchvision==0.{int(release[1]) + 15}.*' if release else 'torch torchvision'


def _import_repair(name: str, error: str, versions: dict[str, str]) -> str:
    if name == 'torchvision':
        return (
            f'It does not fit torch {versions.get("torch")}, or is damaged. Repair:\n    pip uninstall -y torchvision\n'
            f'    pip install --no-cache-dir {_fitting_torchvision(versions)}'
        )
    if name != 'opencv-python-headless':
        return f'Repair:\n    pip uninstall -y {name}\n    {install_command(name, versions.get(name))}'
    opencv = sorted(name for name in versions if name.startswith('opencv-'))
    why = ''
    if 'cannot open shared object' in error:
        why = 'This opencv needs a graphics library that the machine lacks; the headless build needs none. '
    return f'{why}Repair:\n    pip uninstall -y {" ".join(opencv) or "opencv-python"}\n    {install_command(name)}'


def load_operators() -> ModuleType:
    """mmcv's compiled extension, loaded from its file; torch must be imported.

    Raises:
        FileNotFoundError: mmcv has none.
        ImportError: It does not fit the installed torch.
    """
    package: Any = importlib.util.find_spec('mmcv')
    folder = Path(package.origin).parent
    files = [folder / f'_ext{suffix}' for suffix in importlib.machinery.EXTENSION_SUFFIXES]
    found = [file for file in files if file.exists()]
    if not found:
        raise FileNotFoundError(f'no compiled {files[0].name} in {folder}')
    spec: Any = importlib.util.spec_from_file_location('mmcv._ext', found[0])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def find_operator_faults(versions: dict[str, str]) -> list[str]:
    """Faults of mmcv's compiled operators, where it has some: another torch. Without any, those of mmspike.ops are used."""
    torch_version = importlib.import_module('torch').__version__
    mmcv = next((f'{name} {versions[name]}' for name in ('onedl-mmcv', *ORIGINALS['onedl-mmcv']) if name in versions), 'mmcv')
    repair = f'Repair:\n    pip uninstall -y {mmcv.split()[0]}\n    {install_command("onedl-mmcv")}'
    try:
        operators = load_operators()
    except FileNotFoundError:
        return []
    except ImportError as error:
        return [
            f'{mmcv} does not fit torch {torch_version}: its operators were compiled against another torch and do not load '
            f'({error}). {repair}'
        ]
    missing = [name for name in OPERATORS if not hasattr(operators, name)]
    if missing:
        return [f'The compiled operators of {mmcv} are incomplete: {", ".join(missing)} missing. {repair}']
    return []


def find_conflicts() -> list[str]:
    """Faults that keep mmspike from running here, each explained with the commands that mend it."""
    versions = installed_versions()
    findings = find_originals(versions) + find_unimportable(versions) + find_unusable()
    # With one of those, mmcv's operators would only repeat it.
    return findings or find_operator_faults(versions)


def find_warnings() -> list[str]:
    """Versions that are likely to work but are not tested. Call it after :func:`find_conflicts` found nothing."""
    versions = installed_versions()
    findings = []
    for name, package in PACKAGES.items():
        series = [number.split('.')[:2] for number in package.tested]
        if name in versions and series and versions[name].split('.')[:2] not in series:
            tested = ', '.join(package.tested)
            findings.append(f'{name} {versions[name]} is not tested with mmspike {__version__}; {tested} is.')
    torch = importlib.import_module('torch')
    if torch.cuda.is_available() and _are_compiled_for_cpu():
        findings.append(
            'There is a GPU, but the operators of mmcv are compiled for the CPU only, so RoIAlign and NMS fail on the GPU. '
            'Install mmcv without compiled operators, or compile it with CUDA (docs/install.md), or set CUDA_VISIBLE_DEVICES= '
            'to run on the CPU.'
        )
    return findings


def _are_compiled_for_cpu() -> bool:
    """True if mmcv has compiled operators for the CPU only. The ones of mmspike.ops know every device."""
    try:
        return load_operators().get_compiling_cuda_version() == 'not available'
    except FileNotFoundError:
        return False


def _numbered(findings: list[str]) -> str:
    return '\n'.join(f'{number}. {finding}' for number, finding in enumerate(findings, 1))


def find_inactive(root: Path) -> str:
    """A line on the environment ``.venv`` in the clone ``root``, which ``make setup`` makes, where another one runs."""
    made = root / '.venv'
    if not (made / 'pyvenv.cfg').is_file() or made.resolve() == Path(sys.prefix).resolve():
        return ''
    return f'There is an environment that is not active: first try\n    . {made / "bin" / "activate"}\n'


def check_environment() -> None:
    """Stop with a plain explanation when the environment cannot work; print warnings to stderr.

    Raises:
        UserError: With every finding and how to mend it.
    """
    conflicts = find_conflicts()
    if conflicts:
        inactive = find_inactive(Path(__file__).parents[2])
        raise UserError(f'mmspike cannot run in this environment ({sys.prefix}):\n{inactive}{_numbered(conflicts)}')
    for warning in find_warnings():
        print(f'Warning: {warning}', file=sys.stderr)


def collect_env() -> dict[str, str]:
    """Versions of the machine, of Python and of every package that matters, as far as the environment lets them be read.

    A package that is not installed has the command that installs it.
    """
    versions = installed_versions()
    info = {'Python': sys.version.replace('\n', '')}
    revision = ''
    if not find_unimportable(versions):
        try:
            from mmengine.utils import get_git_hash
            from mmengine.utils.dl_utils import collect_env as collect_base_env
        except ImportError as error:
            info['mmengine'] = f'does not import: {error}'
        else:
            info = {name: str(value) for name, value in collect_base_env().items()}
            with contextlib.chdir(Path(__file__).parent):
                revision = f'+{get_git_hash(digits=7)}'
    info['mmspike'] = __version__ + revision
    for name, package in PACKAGES.items():
        if package.tested:
            info[name] = versions.get(name) or f'not installed ({install_command(name)})'
        info.update({original: versions[original] for original in package.originals if original in versions})
    return info


def main() -> int:
    """Print the report; the exit status, 1 if something does not fit."""
    for name, value in collect_env().items():
        print(f'{name}: {value}')
    conflicts = find_conflicts()
    if conflicts:
        print(f'\nDoes not fit:\n{_numbered(conflicts)}', file=sys.stderr)
        return 1
    warnings = find_warnings()
    print(f'\nWarnings:\n{_numbered(warnings)}' if warnings else '\nEverything fits.')
    return 0


if __name__ == '__main__':
    sys.exit(main())
