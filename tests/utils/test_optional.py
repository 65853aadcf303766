import os
import subprocess
import sys
from itertools import combinations

import pytest
from mmengine.registry import Registry

from mmspike.utils.environment import HOST_PACKAGES
from mmspike.utils.optional import is_installed, register_placeholder

# Hides hosts the way a missing package looks: nothing finds them. Torch and mmcv are loaded once, each subset in a fork.
SUBSETS = """
import importlib, os, pkgutil, sys, traceback
from importlib.machinery import PathFinder

class HidingFinder(PathFinder):
    hidden = ()

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split('.')[0] in cls.hidden else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = HidingFinder
import torch, mmengine, mmspike, mmcv.ops

def check(hidden):
    HidingFinder.hidden = hidden
    import mmspike
    for module in pkgutil.iter_modules(mmspike.__path__):
        if module.ispkg:
            importlib.import_module('mmspike.' + module.name)
    assert not set(hidden) & set(sys.modules)
    from mmspike.registry import MODELS
    MODELS.import_from_location()
    from mmspike.utils.environment import HOST_PACKAGES
    needs = set()
    for name, cls in MODELS.module_dict.items():
        module = (cls.__doc__ or '').removeprefix('Placeholder: needs ').rstrip('.')
        if module in HOST_PACKAGES:
            needs.add(module)
            try:
                MODELS.build(dict(type=name))
            except ImportError as error:
                assert name in str(error) and HOST_PACKAGES[module] in str(error), error
            else:
                raise AssertionError(name + ' was built without ' + module)
    assert needs <= set(hidden), needs
    assert ('mmpretrain' in needs) == ('mmpretrain' in hidden), 'SpikingLinearClsHead needs mmpretrain'

for argument in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        try:
            check(tuple(name for name in argument.split(',') if name))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit('failed with hidden: ' + argument)
"""


def test_package_imports_with_any_subset_of_the_hosts():
    hosts = [host for host in HOST_PACKAGES if is_installed(host)]
    subsets = [','.join(hidden) for size in range(len(hosts) + 1) for hidden in combinations(hosts, size)]
    environment = dict(os.environ, OMP_NUM_THREADS='1')
    result = subprocess.run([sys.executable, '-c', SUBSETS, *subsets], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, mmspike; print({'torch', 'numpy', 'mmengine', 'mmcv'} & set(sys.modules))"
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert result.stdout.strip() == 'set()', result.stderr


@pytest.mark.parametrize('module, package', HOST_PACKAGES.items())
def test_placeholder_raises_and_names_the_package(module, package):
    registry = Registry('model', scope='placeholder')
    cls = register_placeholder(registry, 'SomeHead', module)
    assert registry.get('SomeHead') is cls
    assert cls.__name__ == 'SomeHead'
    with pytest.raises(ImportError, match=f'mmspike.SomeHead needs {module}, which is not installed: pip install {package}'):
        cls(num_classes=3)
    with pytest.raises(ImportError, match=package):
        registry.build(dict(type='SomeHead', num_classes=3))


def test_is_installed_does_not_import():
    assert is_installed('tabnanny') and 'tabnanny' not in sys.modules
    assert not is_installed('no_such_module')


def test_importing_a_backbone_imports_no_host():
    code = """
import sys
from mmspike.models import ESpikeFormer
ESpikeFormer(dict(dims=(8, 8, 16, 16), num_heads=2))
print({'mmdet', 'mmseg', 'mmpretrain'} & set(sys.modules))
"""
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == 'set()', result.stderr
