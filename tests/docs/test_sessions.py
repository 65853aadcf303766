"""The Python of the README's first screen and the quickstart notebook, each in a process of its own."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pages import blocks

REPO = Path(__file__).resolve().parents[2]
NOTEBOOK = REPO / 'docs' / 'tutorials' / 'quickstart.ipynb'


def run(code: str, folder: Path) -> str:
    (folder / 'session.py').write_text(code)
    environment = os.environ | dict(PYTHONPATH=str(REPO), MPLBACKEND='Agg')
    command = [sys.executable, '-W', 'ignore', 'session.py']
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_readme(tmp_path):
    found = blocks(REPO / 'README.md')
    python = next(i for i, block in enumerate(found) if block.language == 'python')
    assert found[python + 1].language == 'text' and len(re.findall('.+', found[python].text)) <= 6
    assert run(found[python].text, tmp_path) == found[python + 1].text


def test_notebook(tmp_path):
    for host in ('mmseg', 'matplotlib'):
        pytest.importorskip(host)
    notebook = json.loads(NOTEBOOK.read_text())
    assert notebook['nbformat'] == 4 and all(not cell.get('outputs') for cell in notebook['cells'])
    cells = [''.join(cell['source']) for cell in notebook['cells'] if cell['cell_type'] == 'code']
    for cell in cells:
        ast.parse(cell)
    assert 'find_spec' in cells[0] and 'pip' in cells[0]
    printed = run('\n'.join(cells), tmp_path)
    assert 'stride 16: (2, 128, 4, 4)' in printed and '[(2, 32, 16, 16), (2, 32, 8, 8), (2, 32, 4, 4)]' in printed
    # one class everywhere gives at most 20
    assert float(re.search(r'mIoU (\S+),', printed)[1]) > 25
    ours, twin = map(float, re.search(r'(\S+) mJ an image, .* (\S+) mJ', printed).groups())
    assert 0 < ours < twin
    assert re.search(r'^1 of \d+ operations read floats', printed, re.MULTILINE)
    assert len(list((tmp_path / 'outputs' / 'vis').iterdir())) == 8
