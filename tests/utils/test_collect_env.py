"""Broken environments are folders with made-up packages, put on the path of another process.

With ``python -S`` nothing else is installed there; without it the made-up packages come before the real ones.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest

from mmspike.utils import collect_env
from mmspike.utils.environment import PACKAGES
from mmspike.utils.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]
TESTED = {name: package.tested[0] for name, package in PACKAGES.items() if package.tested}
EXTENSION = '_ext' + sysconfig.get_config_var('EXT_SUFFIX')
CHECK = 'from argparse import Namespace; from mmspike.cli import run; run(Namespace, lambda args: print("fits"))'
FITTING_TORCH = """
__version__ = '2.14.1'
class cuda:
    is_available = staticmethod(lambda: False)
"""


class Site:
    """A folder on the path of the checked process."""

    def __init__(self, folder):
        self.folder = folder
        # the package without the metadata that an editable install may have left in the clone
        (folder / 'mmspike').symlink_to(REPOSITORY / 'mmspike')

    def package(self, name, code=''):
        (self.folder / name).mkdir()
        (self.folder / name / '__init__.py').write_text(code)

    def distribution(self, name, version):
        info = self.folder / f'{name.replace("-", "_")}-{version}.dist-info'
        info.mkdir()
        (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n')

    def complete(self):
        """Packages that import, and metadata of the tested versions; mmcv has no operators yet."""
        for name in ('numpy', 'packaging', 'cv2', 'torchvision', 'mmengine', 'mmcv'):
            self.package(name)
        self.package('torch', FITTING_TORCH)
        for name, version in TESTED.items():
            self.distribution(name, version)

    def operators(self, source):
        """Compile ``source`` (C) as mmcv's extension."""
        file = self.folder / 'ext.c'
        file.write_text(source)
        include = '-I' + sysconfig.get_path('include')
        command = ['cc', '-shared', '-fPIC', '-w', include, str(file), '-o', str(self.folder / 'mmcv' / EXTENSION)]
        subprocess.run(command, check=True)

    def run(self, *arguments, hide_installed=True):
        environment = dict(os.environ, PYTHONPATH=str(self.folder))
        command = [sys.executable, *(['-S'] if hide_installed else []), *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=self.folder)

    def check(self, hide_installed=True):
        return self.run('-c', CHECK, hide_installed=hide_installed)


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def assert_explained(result, *texts):
    assert result.returncode == 1
    assert 'Traceback' not in result.stderr
    for text in texts:
        assert text in result.stderr


OPERATORS = """
#include <Python.h>
static PyObject* cuda(PyObject* self, PyObject* args) { return PyUnicode_FromString("not available"); }
static PyMethodDef methods[] = {{"get_compiling_cuda_version", cuda, METH_NOARGS, ""}, {NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_ext", "", -1, methods};
PyMODINIT_FUNC PyInit__ext(void) {
    PyObject* ext = PyModule_Create(&module);
    ADD
    return ext;
}
"""


def operators(*names):
    return OPERATORS.replace('ADD', ' '.join(f'PyModule_AddIntConstant(ext, "{name}", 1);' for name in names))


needs_compiler = pytest.mark.skipif(shutil.which('cc') is None, reason='no C compiler here')


def test_this_environment_fits():
    assert collect_env.find_conflicts() == []
    collect_env.check_environment()


def test_report_of_this_environment(site):
    result = site.run('-m', 'mmspike.utils.collect_env', hide_installed=False)
    assert result.returncode == 0, result.stderr
    for line in ('onedl-mmcv: 2.3.6', f'PyTorch: {metadata.version("torch").partition("+")[0]}', 'mmspike: 0.1.0+'):
        assert line in result.stdout
    assert 'Everything fits.' in result.stdout or 'There is a GPU' in result.stdout


def test_tested_versions_are_the_pinned_ones():
    pinned = (REPOSITORY / 'requirements' / 'pinned.txt').read_text().splitlines()
    assert {f'{name}=={version}' for name, version in TESTED.items()} <= set(pinned)


def test_nothing_installed_names_everything_and_how_to_install_it(site):
    assert_explained(
        site.check(),
        'torch is not installed',
        'mmengine is not installed',
        'mmcv is not installed',
        'pip install torch==2.14.1',
        'pip install torch torchvision\n',
        'pip install onedl-mmengine==0.10.12',
        'pip install --no-cache-dir onedl-mmcv==2.3.6',
    )


def test_an_environment_of_the_clone_that_is_not_active_is_named_first(tmp_path, monkeypatch):
    monkeypatch.setattr(collect_env, 'find_conflicts', lambda: ['torch is not installed'])
    monkeypatch.setattr(collect_env, '__file__', str(tmp_path / 'mmspike' / 'utils' / 'collect_env.py'))
    with pytest.raises(UserError, match=r'\):\n1. torch is not'):
        collect_env.check_environment()
    made = tmp_path / '.venv'
    made.mkdir()
    (made / 'pyvenv.cfg').touch()
    with pytest.raises(UserError, match=rf'not active: first try\n    \. {made}/bin/activate\n1. torch is not'):
        collect_env.check_environment()
    monkeypatch.setattr(sys, 'prefix', str(made))
    with pytest.raises(UserError, match=r'\):\n1. torch is not'):
        collect_env.check_environment()


def test_report_works_without_mmengine(site):
    result = site.run('-m', 'mmspike.utils.collect_env')
    assert 'onedl-mmengine: not installed' in result.stdout
    assert 'onedl-mmpretrain: not installed (pip install onedl-mmpretrain==1.3.6)' in result.stdout
    assert_explained(result, 'mmengine is not installed')


def test_remains_of_an_uninstalled_package_count_as_missing(site):
    site.complete()
    (site.folder / 'mmengine' / '__init__.py').unlink()
    assert_explained(site.check(), 'mmengine is not installed')


@pytest.mark.parametrize(
    'original, onedl',
    [(original, onedl) for onedl, originals in collect_env.ORIGINALS.items() for original in originals],
)
def test_original_distribution_next_to_its_onedl_one(site, original, onedl):
    site.complete()
    site.distribution(original, '1.2.3')
    result = site.check()
    assert_explained(
        result,
        f'{original} 1.2.3 of the original open-mmlab line is installed next to {onedl} {TESTED[onedl]}',
        f'pip uninstall -y {original} {onedl}\n',
        f'{onedl}=={TESTED[onedl]}',
    )


def test_original_host_on_an_onedl_foundation(site):
    """mmdet of the original line on onedl-mmcv: no file is shared, but its version check of mmcv fails."""
    site.complete()
    shutil.rmtree(site.folder / 'onedl_mmdetection-3.5.1.dist-info')
    site.distribution('mmdet', '3.3.0')
    assert_explained(
        site.check(), 'mmdet 3.3.0', 'onedl-mmcv, onedl-mmengine', 'pip uninstall -y mmdet\n', 'onedl-mmdetection==3.5.1'
    )


def test_original_beside_the_real_installation(site):
    site.distribution('mmcv-lite', '2.1.0')
    assert_explained(site.check(hide_installed=False), 'mmcv-lite 2.1.0', 'pip uninstall -y mmcv-lite onedl-mmcv')


def test_remains_of_an_interrupted_pip_are_no_finding(site):
    (site.folder / '~mcv-2.1.0.dist-info').mkdir()
    assert site.check(hide_installed=False).stdout == 'fits\n'


@pytest.mark.parametrize('gpu', [False, True])
def test_mmcv_without_operators_fits(site, gpu):
    site.complete()
    (site.folder / 'torch' / '__init__.py').write_text(FITTING_TORCH.replace('False', str(gpu)))
    result = site.check()
    assert (result.returncode, result.stdout, result.stderr) == (0, 'fits\n', '')


@pytest.mark.parametrize('torch, torchvision', [('2.6.0', '0.21'), ('2.11.0+cu130', '0.26'), ('2.14.1', '0.29')])
def test_torch_without_the_torchvision_that_belongs_to_it(site, torch, torchvision):
    site.complete()
    shutil.rmtree(site.folder / f'torch-{TESTED["torch"]}.dist-info')
    site.distribution('torch', torch)
    (site.folder / 'torchvision' / '__init__.py').write_text('raise RuntimeError("operator torchvision::nms does not exist")')
    assert_explained(
        site.check(),
        'torchvision is installed but does not import: operator torchvision::nms does not exist',
        f'It does not fit torch {torch}',
        f'pip uninstall -y torchvision\n    pip install --no-cache-dir torchvision=={torchvision}.*',
    )
    shutil.rmtree(site.folder / 'torchvision')
    assert_explained(site.check(), f'torchvision is not installed. Install it:\n    pip install torchvision=={torchvision}.*')


@needs_compiler
def test_mmcv_compiled_against_another_torch(site):
    site.complete()
    site.operators(operators().replace('PyObject* ext =', '_ZN3c1012of_another_torch(); PyObject* ext ='))
    assert_explained(
        site.check(),
        'onedl-mmcv 2.3.6 does not fit torch 2.14.1',
        'undefined symbol: _ZN3c1012of_another_torch',
        'pip uninstall -y onedl-mmcv',
    )


def test_mmcv_with_a_broken_operator_file(site):
    site.complete()
    (site.folder / 'mmcv' / EXTENSION).write_bytes(b'not a shared object')
    assert_explained(site.check(), 'does not fit torch 2.14.1', 'file too short')


@needs_compiler
def test_mmcv_with_a_part_of_the_operators(site):
    site.complete()
    site.operators(operators('nms', 'softnms', 'roi_align_forward'))
    assert_explained(site.check(), 'incomplete: sigmoid_focal_loss_forward, modulated_deform_conv_forward missing')


@needs_compiler
def test_environment_that_fits(site):
    site.complete()
    site.operators(operators(*collect_env.OPERATORS))
    result = site.check()
    assert (result.returncode, result.stdout, result.stderr) == (0, 'fits\n', '')


@needs_compiler
@pytest.mark.parametrize('version', ['2.6.0', '2.12.1+cu130'])
def test_untested_torch_is_only_a_warning(site, version):
    site.complete()
    site.operators(operators(*collect_env.OPERATORS))
    shutil.rmtree(site.folder / f'torch-{TESTED["torch"]}.dist-info')
    site.distribution('torch', version)
    result = site.check()
    assert result.stdout == 'fits\n'
    assert f'Warning: torch {version} is not tested with mmspike' in result.stderr


@needs_compiler
def test_gpu_with_operators_for_the_cpu_is_a_warning(site):
    site.complete()
    site.operators(operators(*collect_env.OPERATORS))
    (site.folder / 'torch' / '__init__.py').write_text(FITTING_TORCH.replace('False', 'True'))
    result = site.check()
    assert result.stdout == 'fits\n'
    assert 'compiled for the CPU only' in result.stderr


@pytest.mark.parametrize(
    'module, error, repair',
    [
        ('cv2', 'libGL.so.1: cannot open shared object file: No such file or directory', 'pip install opencv-python-headless'),
        ('numpy', 'numpy.core.multiarray failed to import', 'pip uninstall -y numpy'),
        ('torch', 'libcudart.so.13: cannot open shared object file', 'pip install torch==2.14.1'),
    ],
)
def test_package_that_does_not_import(site, module, error, repair):
    site.complete()
    site.distribution('opencv-python', '4.12.0.88')
    (site.folder / module / '__init__.py').write_text(f'raise ImportError({error!r})')
    result = site.check()
    assert_explained(result, f'{module} is installed but does not import: {error}', repair)
    if module == 'cv2':
        assert 'pip uninstall -y opencv-python\n' in result.stderr
        assert 'the headless build needs none' in result.stderr
