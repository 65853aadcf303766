"""The wheel and the requirement files."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from importlib.metadata import distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import mmspike

REPOSITORY = Path(__file__).resolve().parents[1]


def pip(*arguments):
    command = [sys.executable, '-m', 'pip', *arguments, '--no-deps', '--no-build-isolation', '--no-index', '-q']
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """A copy of what git would hand out of the source tree, so that what a build leaves behind can be told."""
    folder = tmp_path_factory.mktemp('source') / 'mmspike'
    folder.mkdir()
    ignore = shutil.ignore_patterns('__pycache__', '.mim')
    for name in ('mmspike', 'configs', 'tools', 'requirements'):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=ignore)
    for name in ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'LICENSE', 'README.md', 'model-index.yml'):
        if (REPOSITORY / name).exists():
            shutil.copy(REPOSITORY / name, folder / name)
    return folder


@pytest.fixture(scope='module')
def wheel(source, tmp_path_factory):
    before = {path for path in source.rglob('*') if path.is_file()}
    folder = tmp_path_factory.mktemp('wheel')
    pip('wheel', '-w', str(folder), str(source))
    new = {path.relative_to(source).parts[0] for path in source.rglob('*') if path.is_file() and path not in before}
    assert new <= {'mmspike.egg-info'}
    (path,) = folder.glob('*.whl')
    with zipfile.ZipFile(path) as archive:
        yield archive


def relative_files(folder, *suffixes):
    return {path.relative_to(folder).as_posix() for path in folder.rglob('*') if path.suffix in suffixes}


def test_wheel_has_every_module_and_the_weights(source, wheel):
    files = relative_files(source / 'mmspike', '.py', '.c', '.h', '.typed', '.pth', '.json')
    assert {f'mmspike/{name}' for name in files} <= set(wheel.namelist())


def test_wheel_carries_configs_and_tools(source, wheel):
    names = {name.removeprefix('mmspike/.mim/') for name in wheel.namelist() if name.startswith('mmspike/.mim/')}
    assert 'tools/train.py' in names
    assert {f'configs/{name}' for name in relative_files(source / 'configs', '.py', '.yml', '.md')} <= names
    tools = {name for name in relative_files(source / 'tools', '.py', '.sh') if not name.startswith('dev/')}
    assert {f'tools/{name}' for name in tools} <= names
    assert ('model-index.yml' in names) == (source / 'model-index.yml').exists()
    assert {name.split('/')[0] for name in names} <= {'configs', 'tools', 'model-index.yml'}


def test_source_distribution_builds_the_same_wheel(source, wheel, tmp_path):
    copy = shutil.copytree(source, tmp_path / 'source')
    result = subprocess.run([sys.executable, 'setup.py', '-q', 'sdist'], capture_output=True, text=True, cwd=copy)
    assert result.returncode == 0, result.stderr
    (archive,) = (copy / 'dist').iterdir()
    pip('wheel', '-w', str(tmp_path), str(archive))
    (path,) = tmp_path.glob('*.whl')
    with zipfile.ZipFile(path) as other:
        assert set(other.namelist()) == set(wheel.namelist())


def test_wheel_has_nothing_else(wheel):
    assert {name.split('/')[0] for name in wheel.namelist()} == {'mmspike', f'mmspike-{mmspike.__version__}.dist-info'}
    assert [name for name in wheel.namelist() if '__pycache__' in name or name.endswith('.pyc')] == []


def test_metadata(wheel):
    information = f'mmspike-{mmspike.__version__}.dist-info'
    metadata = Parser().parsestr(wheel.read(f'{information}/METADATA').decode())
    assert metadata['Version'] == mmspike.__version__
    assert metadata['License-Expression'] == 'Apache-2.0'
    assert metadata['Requires-Python'] == '>=3.11'
    assert set(metadata.get_all('Provides-Extra')) == {'mim', 'tests', 'optional', 'docs', 'events', 'webui', 'all'}
    mandatory = [line for line in metadata.get_all('Requires-Dist') if 'extra' not in line]
    assert mandatory == [str(requirement) for requirement in read_requirements('runtime')]
    assert any(name.startswith(f'{information}/') and name.endswith('LICENSE') for name in wheel.namelist())


def test_editable_install_finds_package_and_configs(source, tmp_path):
    copy = shutil.copytree(source, tmp_path / 'mmspike')
    pip('install', '--target', str(tmp_path / 'site'), '-e', str(copy))
    code = (
        'import site, sys; site.addsitedir(sys.argv[1])\n'
        'import mmspike, pathlib\n'
        'package = pathlib.Path(mmspike.__file__).parent\n'
        'print(package)\n'
        'print((package / ".mim" / "configs").resolve())\n'
        'print((package / ".mim" / "tools" / "train.py").is_file())\n'
    )
    # -S and no PYTHONPATH: nothing but the editable install leads to the package
    environment = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    command = [sys.executable, '-S', '-c', code, str(tmp_path / 'site')]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path / 'site', env=environment)
    assert result.stdout.split() == [str(copy / 'mmspike'), str(copy / 'configs'), 'True'], result.stderr


def read_requirements(name):
    lines = (REPOSITORY / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith('#')]


@pytest.mark.parametrize('name', ['runtime', 'mminstall', 'optional', 'tests'])
def test_pinned_versions_meet_the_requirements(name):
    pinned = {normalise(pin.name): str(pin.specifier).removeprefix('==') for pin in read_requirements('pinned')}
    for requirement in read_requirements(name):
        assert pinned[normalise(requirement.name)] in requirement.specifier, requirement


def test_pins_leave_no_dependency_out():
    """The pins are installed with --no-deps: a dependency that is missing among them is missing in .venv."""
    pins = [pin for pin in read_requirements('pinned') if pin.marker is None or pin.marker.evaluate()]
    pinned = {normalise(pin.name) for pin in pins}
    assert not pinned - {normalise(found.name) for found in distributions()}, 'run the tests in .venv'
    missing = {}
    for name in pinned:
        for line in requires(name) or []:
            requirement = Requirement(line)
            applies = requirement.marker is None or requirement.marker.evaluate({'extra': ''})
            if applies and normalise(requirement.name) not in pinned:
                missing.setdefault(normalise(requirement.name), set()).add(name)
    # Left out on purpose, pinned.txt says why
    assert missing.keys() == {'opencv-python', 'numba', 'torchaudio'}, missing


def normalise(name):
    return re.sub(r'[-_.]+', '-', name).lower()
