"""The file for a machine with a GPU, rehearsed on the CPU with tiny networks; and what it does with a part that fails."""

import importlib.util
import json
import subprocess
import sys

import pytest
import torch


def start(repo, out, *options):
    command = [sys.executable, repo / 'tools/benchmarks/gpu.py', '--device', 'cpu', '--tiny', '--minutes', '90', '--out', out]
    return subprocess.run([*map(str, command), *options], capture_output=True, text=True, check=False)


def test_every_part(repo, tmp_path):
    done = start(repo, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    report = json.loads((tmp_path / 'gpu.json').read_text())
    names = ['machine', 'kernels_against_pytorch', 'rows_against_pytorch', 'bandwidth', 'numerics', 'speed', 'compiled', 'demo']
    names += ['launch_gaps', 'sanitizer', 'sweeps']
    assert list(report) == names
    checks = {name: [record for record in report[name] if 'check' in record] for name in names}
    assert all(record['check'] == 'held' for records in checks.values() for record in records)
    assert [len(checks[name]) for name in names] == [0, 45, 17, 0, 4, 0, 1, 1, 0, 0, 0]
    written = (tmp_path / 'gpu.md').read_text()
    assert all(f'## {name.replace("_", " ")}' in written for name in names)
    assert all(record['what'] in written for records in report.values() for record in records)


FAULTS = """
import os, sys
sys.argv = ['gpu.py', '--device', 'cpu', '--tiny', '--out', {out!r}]
sys.path.insert(0, {folder!r})
import gpu

def wrong(part):
    part.check('two is three', 2 == 3)

def broken(part):
    part.note('before')
    raise KeyError('x')

def crashing(part):
    os.abort()

def good(part):
    part.check('two is two', True)

gpu.PARTS = {{f: 1 for f in (wrong, broken, crashing, good)}}
sys.exit(gpu.main())
"""


def test_failures_are_recorded_and_stop_nothing(repo, tmp_path):
    script = FAULTS.format(out=str(tmp_path), folder=str(repo / 'tools/benchmarks'))
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    report = json.loads((tmp_path / 'gpu.json').read_text())
    assert report['wrong'][0] == dict(what='two is three', check='FAILED')
    assert report['broken'][0] == dict(what='before') and report['broken'][1]['error'] == "KeyError: 'x'"
    assert 'the process ended with -6' in report['crashing'][0]['error']
    assert report['good'][0]['check'] == 'held'
    assert "broken: 2 records, FAILED: the part failed (KeyError: 'x')" in done.stdout


def test_options_that_do_not_fit(repo, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'path', [*sys.path])
    monkeypatch.setenv('PYTORCH_NVML_BASED_CUDA_CHECK', '1')
    spec = importlib.util.spec_from_file_location('gpu', repo / 'tools/benchmarks/gpu.py')
    gpu = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gpu)
    options = {'--minutes 0: expected a positive number': ['--minutes', '0']}
    if not torch.cuda.is_available():
        options['--device cpu --tiny rehearses without one'] = ['--device', 'cuda']
    for message, given in options.items():
        monkeypatch.setattr(sys, 'argv', ['gpu.py', '--out', str(tmp_path / 'out'), *given])
        with pytest.raises(SystemExit):
            gpu.main()
        assert message in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()
