"""Installed versions are folders of made-up metadata, which come before the real ones on the path of another process."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from mmspike.utils import collect_env, environment
from mmspike.utils.environment import PACKAGES

REPOSITORY = Path(__file__).resolve().parents[2]
RANGED = tuple(name for name, package in PACKAGES.items() if package.tested)


def requirements():
    """All lines of the requirement files from which the metadata are made."""
    texts = [(REPOSITORY / 'requirements' / f'{name}.txt').read_text() for name in ('runtime', 'mminstall', 'optional')]
    return [line for line in '\n'.join(texts).splitlines() if line and not line.startswith('#')]


def add_distribution(folder, name, version, *requires):
    info = folder / f'{name.replace("-", "_")}-{version}.dist-info'
    info.mkdir()
    lines = ['Metadata-Version: 2.1', f'Name: {name}', f'Version: {version}', *(f'Requires-Dist: {r}' for r in requires)]
    (info / 'METADATA').write_text('\n'.join(lines) + '\n')


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder first on the path, with the metadata that mmspike gets when it is installed from these requirement files."""
    add_distribution(tmp_path, 'mmspike', '0.1.0', *requirements())
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def run(site, *arguments):
    variables = dict(os.environ, PYTHONPATH=os.pathsep.join([str(site), str(REPOSITORY)]))
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=variables, cwd=site)


def test_ranges_are_those_of_the_requirement_files(site):
    expected = {r.name: r.specifier for r in map(Requirement, requirements())}
    assert environment.declared_ranges() == expected
    assert set(RANGED) <= set(expected)
    assert all(expected[name] for name in RANGED), 'a range for each'


def test_ranges_of_an_installed_package_name_its_extras(monkeypatch):
    lines = ['torch>=2.6', 'onedl-mmcv<2.4,>=2.3.6; extra == "mim"', 'onedl-mmcv<2.4,>=2.3.6; extra == "all"']
    monkeypatch.setattr(environment, 'requires', lambda name: lines)
    assert {name: str(r) for name, r in environment.declared_ranges().items()} == {
        'torch': '>=2.6',
        'onedl-mmcv': '<2.4,>=2.3.6',
    }


def test_what_the_tests_run_with_is_in_range(site):
    assert environment.find_out_of_range(RANGED) == {}


@pytest.mark.parametrize('name', RANGED)
@pytest.mark.parametrize('version', ['0.0.1', '99.0.0'])
def test_out_of_range(site, name, version):
    specifier = next(r.specifier for r in map(Requirement, requirements()) if r.name == name)
    add_distribution(site, name, version)
    if version in specifier:  # these have no upper bound
        assert name in ('torch', 'torchvision', 'spikingjelly')
        environment.check_versions()
        return
    text = re.escape(f'{name} {version} is installed, but mmspike ') + '.*' + re.escape(f' needs {name}{specifier}. Repair:')
    if PACKAGES[name].required:
        with pytest.raises(environment.VersionError, match=text) as caught:
            environment.check_versions()
        message = str(caught.value)
    else:
        with pytest.warns(RuntimeWarning, match=text) as caught:
            environment.check_versions()
        message = str(caught[0].message)
    assert re.search(rf'pip install .*{name}==', message)


@pytest.mark.parametrize('version', ['2.11.0+cu130', '2.6.0a0+ecf3bae40a.nv25.01', '2.6.0'])
def test_builds_of_a_vendor_are_in_range(site, version):
    add_distribution(site, 'torch', version)
    assert environment.find_out_of_range(('torch',)) == {}


def test_all_that_is_out_of_range_is_told_at_once(site):
    add_distribution(site, 'torch', '2.5.1+cu124')
    add_distribution(site, 'onedl-mmcv', '2.4.0')
    with pytest.raises(environment.VersionError, match=r'(?s)torch 2\.5\.1\+cu124 is.*onedl-mmcv 2\.4\.0 is'):
        environment.check_versions()


def test_original_line_is_a_warning(monkeypatch):
    installed = {'mmcv': '2.1.0', 'torch': '2.11.0'}

    def version(name):
        if name not in installed:
            raise environment.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(environment, 'requires', lambda name: requirements())
    monkeypatch.setattr(environment, 'version', version)
    with pytest.warns(RuntimeWarning, match='mmcv 2.1.0 of the original open-mmlab line') as caught:
        environment.check_versions()
    assert 'pip uninstall -y mmcv\n' in str(caught[0].message)


def test_nothing_is_checked_without_metadata(monkeypatch):
    monkeypatch.setattr(environment, 'requires', lambda name: (_ for _ in ()).throw(environment.PackageNotFoundError(name)))
    assert environment.declared_ranges() == {}
    environment.check_versions()


def test_registry_stops_with_the_explanation_and_collect_env_gives_it(site):
    add_distribution(site, 'onedl-mmengine', '1.0.0')
    result = run(site, '-c', 'import mmspike.registry')
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-2:]
    assert last[0].startswith('mmspike.utils.environment.VersionError: onedl-mmengine 1.0.0 is installed, but mmspike ')
    assert last[0].endswith('needs onedl-mmengine<1.0,>=0.10.12. Repair:')
    assert last[1].strip() == 'pip install onedl-mmengine==0.10.12'
    assert run(site, '-c', 'import mmspike').returncode == 0, 'python -m mmspike.utils.collect_env could not report'
    (finding,) = collect_env.find_conflicts()
    assert finding.startswith('onedl-mmengine 1.0.0 is installed, but mmspike ')


def test_registry_warns_of_a_host_and_import_is_light(site):
    add_distribution(site, 'onedl-mmdetection', '4.0.0')
    code = 'import mmspike, sys; print({"torch", "numpy", "mmengine"} & set(sys.modules)); import mmspike.registry'
    result = run(site, '-c', code)
    assert result.returncode == 0 and result.stdout.strip() == 'set()', result.stderr
    assert 'RuntimeWarning: onedl-mmdetection 4.0.0 is installed, but mmspike ' in result.stderr


def test_readme_names_the_tested_versions():
    """Its table has the versions of the table of packages, and the oldest one that was tried; the hosts stand below it."""
    text = (REPOSITORY / 'README.md').read_text()
    rows = re.findall(r'^\| (3\.\d+) \| (\S+) / (\S+) \| \S', text, re.MULTILINE)
    assert {python for python, _, _ in rows} <= {'3.11', '3.12', '3.13'}
    assert {torch for _, torch, _ in rows} == {*PACKAGES['torch'].tested, '2.6.0'}
    assert {torchvision for _, _, torchvision in rows} == {*PACKAGES['torchvision'].tested, '0.21.0'}
    for name in set(RANGED) - {'torch', 'torchvision'}:
        assert f'{name} {PACKAGES[name].tested[0]}' in text, name


def test_metadata_are_not_read_without_packaging(monkeypatch, site):
    """collect_env has to get as far as saying that packaging is missing."""
    add_distribution(site, 'torch', '2.5.1')
    monkeypatch.setattr(environment, 'find_spec', lambda name: None)
    assert environment.declared_ranges() == {}
    environment.check_versions()
