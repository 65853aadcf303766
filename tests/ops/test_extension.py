"""Who finds which ``mmcv._ext``, in processes of their own: imports cannot be taken back."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmspike.ops.late import attempts

REPOSITORY = Path(__file__).resolve().parents[2]
COMPILED = any((Path(importlib.util.find_spec('mmcv').origin).parent).glob('_ext.*'))
without_compiled = pytest.mark.skipif(COMPILED, reason='mmcv has compiled operators here')


def run(code: str, *folders: Path) -> str:
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([*map(str, folders), str(REPOSITORY)]))
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_importing_mmspike_installs_the_finder_and_imports_nothing() -> None:
    code = """
import sys
import mmspike
from mmspike.ops import install_operators
finders = [type(f).__name__ for f in sys.meta_path]
install_operators()
assert [type(f).__name__ for f in sys.meta_path] == finders, 'once'
assert finders[-1] == '_OperatorsFinder', finders
print([m for m in ('torch', 'mmcv', 'torchvision') if m in sys.modules])
"""
    assert run(code) == '[]\n'


def test_a_compiled_extension_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / 'mmcv').mkdir()
    (tmp_path / 'mmcv' / '__init__.py').write_text('')
    (tmp_path / 'mmcv' / '_ext.py').write_text('nms = "compiled"')
    assert run('import mmspike, mmcv._ext; print(mmcv._ext.nms, hasattr(mmcv._ext, "softnms"))', tmp_path) == 'compiled False\n'


@without_compiled
def test_operators_that_are_not_provided_name_themselves() -> None:
    code = """
import mmspike, importlib.util, torch
assert importlib.util.find_spec('mmcv._ext') is not None, 'mmengine asks so'
import mmcv._ext
from mmcv.ops import points_in_boxes_cpu
from mmspike.utils.errors import UserError
assert not hasattr(mmcv._ext, '__wrapped__')
try:
    points_in_boxes_cpu(torch.rand(1, 4, 3), torch.rand(1, 2, 7))
except UserError as error:
    print(error)
"""
    text = run(code)
    assert text.startswith('points_in_boxes_cpu_forward: the installed mmcv has no compiled operators')
    assert 'Compile mmcv' in text


@without_compiled
@pytest.mark.parametrize(
    'first, module, operator, models_of',
    [
        ('mmdet.apis', 'mmdet.structures.mask.structures', 'roi_align', None),
        ('mmpretrain.apis', 'mmpretrain.apis', None, None),
        ('mmseg.apis', 'mmseg.models.decode_heads.psa_head', 'PSAMask', 'mmdet, mmseg'),
    ],
)
def test_a_host_that_was_imported_before_gets_the_operators(first, module, operator, models_of) -> None:
    pytest.importorskip(first.partition('.')[0])
    code = f"""
import sys, warnings
import {first}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always')
    import mmspike
print([str(w.message) for w in caught if 'mmspike' in str(w.message)])
import mmcv.ops
assert {operator!r} is None or getattr(sys.modules[{module!r}], {operator!r}) is getattr(mmcv.ops, {operator!r})
"""
    *_, warned = run(code).splitlines()
    assert warned == '[]' if models_of is None else f'imported after models of {models_of}, which' in warned


def test_attempts_are_those_that_a_module_survives() -> None:
    source = """
try:
    from mmcv.ops import nms as own
    from mmcv.utils import ext_loader
except ImportError:
    own = None
from mmcv.ops import RoIAlign
def f():
    try:
        from mmcv.ops import RoIPool
    except ImportError:
        pass
"""
    found = [(line.module, [(a.name, a.asname) for a in line.names]) for line in attempts(source)]
    assert found == [('mmcv.ops', [('nms', 'own')])]
