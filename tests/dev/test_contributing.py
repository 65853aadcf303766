"""The steps of CONTRIBUTING.md, done."""

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

from mmspike import kernels
from mmspike.deploy import audit, difference, expand, fuse, leftovers
from mmspike.models.layers import Chain
from mmspike.registry import MODELS

REPOSITORY = Path(__file__).resolve().parents[2]
TEXT = (REPOSITORY / 'CONTRIBUTING.md').read_text()
# title -> content of the code blocks that are files, or parts of one
BLOCKS = dict(re.findall(r'^```(?:python|text) title="(.+?)"\n(.*?)^```$', TEXT, re.MULTILINE | re.DOTALL))


def insert(path, before, lines):
    text = path.read_text()
    assert text.count(before) == 1
    path.write_text(text.replace(before, lines + before))


def test_backbone_in_one_file(tmp_path):
    """In a copy of the package: the file, the small instance of the tests, and the command that tests it."""
    shutil.copytree(REPOSITORY / 'mmspike', tmp_path / 'mmspike', ignore=shutil.ignore_patterns('__pycache__', '.mim'))
    tests = 'tests/models/backbones/test_backbones.py'
    (tmp_path / tests).parent.mkdir(parents=True)
    for name in ('pyproject.toml', 'tests/conftest.py', tests):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    (new,) = set(BLOCKS) - {tests}
    assert not (tmp_path / new).exists()
    (tmp_path / new).write_text(BLOCKS[new])
    insert(tmp_path / tests, '    MetaSpikeFormer=', BLOCKS[tests])
    (command,) = re.findall(r'^python (-m pytest .+?) -k "(.+)"$', TEXT, re.MULTILINE)
    environment = dict(os.environ, PYTHONPATH=str(tmp_path))
    (tmp_path / 'found.py').write_text(FOUND)
    arguments = [
        sys.executable,
        *command[0].split(),
        '-k',
        command[1],
        '-q',
        '-p',
        'no:cacheprovider',
        '-p',
        'found',
        '-W',
        'ignore',
    ]
    result = subprocess.run(arguments, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    passed = int(re.search(r'(\d+) passed', result.stdout).group(1))
    assert passed >= 36 and 'skipped' not in result.stdout and 'found' in result.stdout, result.stdout


# a plugin of that pytest
FOUND = """
def pytest_sessionfinish():
    import mmspike
    from mmspike.models import MembraneResNet, backbones

    assert 'MembraneResNet' in backbones.__all__
    assert mmspike.get_arch('membraneresnet-18') == dict(type='mmspike.MembraneResNet', arch='membraneresnet-18')
    print('found')
"""


def test_the_backbone_deploys(tmp_path, monkeypatch):
    """On kernels, folded, expanded and audited without a line beyond its file, which lies outside of the package here."""
    (source,) = (text for title, text in BLOCKS.items() if title.endswith('membrane_resnet.py'))
    (tmp_path / 'my_backbones.py').write_text(source.replace('from .base import', 'from mmspike.models.backbones.base import'))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(MODELS, '_module_dict', dict(MODELS.module_dict))
    backbone = importlib.import_module('my_backbones').MembraneResNet
    monkeypatch.delitem(sys.modules, 'my_backbones')

    torch.manual_seed(0)
    model = backbone(dict(dims=(8, 8, 16, 16), depths=(1, 1, 1, 1)), T=2, neuron=dict(type='SFA', levels=4))
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.weight, 0.5, 1.5)
            nn.init.normal_(m.bias, 0.7, 0.5)
            nn.init.normal_(m.running_mean, 0, 0.2)
    model, x = model.double(), torch.randn(2, 3, 64, 64, dtype=torch.float64)
    rows = [m.as_row() for m in model.modules() if isinstance(m, Chain)]
    assert len(rows) == 13 and all(role for row in rows for _, role in row.parts)  # the kernels know every part
    gradients = []
    for on in (True, False):
        with kernels.use(on):
            loss = sum(out.square().mean() for out in model(x))
            gradients.append(torch.autograd.grad(loss, list(model.parameters())))
    torch.testing.assert_close(*gradients)
    model.eval()
    network = fuse(model)
    with torch.no_grad():
        assert difference(model(x), network(x)).largest < 1e-9 and leftovers(network) == []
        for a, b in zip(expand(network, binary=False)(x), expand(network)(x), strict=True):
            assert a.std() > 0.1 and torch.equal(a, b)
    report = audit(network, lambda: network(x))
    assert report.float_fed == ['stem.0.conv (conv)'] and report.spike_driven, report
    assert {r.fed for r in report.operations[1:]} == {'integers'} and len(report.operations) == 13, report


def test_file_is_formatted_and_linted(tmp_path):
    for title, content in BLOCKS.items():
        if title.startswith('mmspike/'):
            file = tmp_path / Path(title).name
            file.write_text(content)
            for command in (['check', '--no-cache'], ['format', '--check', '--no-cache']):
                arguments = [sys.executable, '-m', 'ruff', *command, '--config', str(REPOSITORY / 'pyproject.toml'), str(file)]
                result = subprocess.run(arguments, capture_output=True, text=True)
                assert result.returncode == 0, result.stdout + result.stderr


def test_links_and_commands_exist():
    for target in re.findall(r'\]\((?!http|#)([^)#]+)', TEXT):
        assert (REPOSITORY / target).exists(), target
    makefile = (REPOSITORY / 'Makefile').read_text()
    for target in re.findall(r'^make (\w+)', TEXT, re.MULTILINE):
        assert f'\n{target}: ' in makefile or f'\n{target}:\n' in makefile, target
