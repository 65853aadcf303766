"""The command line, in environments in which nothing is installed (``python -S``) and in which everything is."""

import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch.distributed

from mmspike import cli
from mmspike.utils.errors import UserError

REPO = Path(__file__).resolve().parents[1]

EVERY_HELP = """
import contextlib, io, sys
from mmspike.cli import main, tools
for name in tools():
    sys.argv = ['mmspike', name, '--help']
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            main()
        except SystemExit as error:
            assert not error.code, name
    assert out.getvalue().startswith(f'usage: mmspike {name} '), (name, out.getvalue())
"""


def python(*arguments, cwd=REPO):
    command = [sys.executable, *map(str, arguments)]
    environment = os.environ | dict(PYTHONPATH=str(REPO))
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, check=False)


def test_help_of_every_command_needs_no_package(tmp_path):
    listed = python('-S', '-m', 'mmspike', '--help', cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    names = [line.split()[0] for line in listed.stdout.splitlines() if line.startswith('  ')]
    assert names == [*cli.tools(), 'env']
    assert {'train', 'test', 'demo', 'infer', 'webui', 'energy', 'deploy', 'speed', 'benchmark'} < set(names)
    files = {path for path in (REPO / 'tools').rglob('*.py') if path.parent.name not in ('dev', 'benchmarks')}
    assert set(cli.tools().values()) == files
    helped = python('-S', '-c', EVERY_HELP, cwd=tmp_path)
    assert helped.returncode == 0, helped.stderr


def test_names(monkeypatch, capsys):
    for given, tool in [
        ('image_demo', 'infer'),
        ('get-energy', 'energy'),
        ('print_config', 'print-config'),
        ('benchmark',) * 2,
    ]:
        monkeypatch.setattr(sys, 'argv', ['mmspike', given, '-h'])
        monkeypatch.setitem(sys.modules, '__main__', sys.modules['__main__'])
        with pytest.raises(SystemExit, match='0'):
            cli.main()
        assert capsys.readouterr().out.startswith(f'usage: mmspike {tool} ')
    monkeypatch.setattr(sys, 'argv', ['mmspike', 'trian', 'config.py'])
    with pytest.raises(SystemExit, match="mmspike has no command 'trian': did you mean train. `mmspike --help` lists all"):
        cli.main()
    monkeypatch.setattr(sys, 'argv', ['mmspike', '--version'])
    cli.main()
    assert capsys.readouterr().out == '0.1.0\n'


def test_command_and_report_of_an_empty_environment(tmp_path):
    train = python('-S', '-m', 'mmspike', 'train', 'config.py', cwd=tmp_path)
    assert train.returncode == 1 and 'mmspike cannot run in this environment' in train.stderr
    assert 'torch is not installed' in train.stderr and 'Traceback' not in train.stderr
    env = python('-S', '-m', 'mmspike', 'env', cwd=tmp_path)
    assert env.returncode == 1 and 'onedl-mmengine: not installed' in env.stdout and 'torch is not installed' in env.stderr


def test_command_reads_a_config_with_types_of_the_current_folder(tmp_path):
    (tmp_path / 'mine.py').write_text('VALUE = 3\n')
    (tmp_path / 'config.py').write_text("custom_imports = dict(imports=['mine'])\nvalue = 3\n")
    result = python('-m', 'mmspike', 'print-config', 'config.py', cwd=tmp_path)
    assert result.returncode == 0 and 'value = 3' in result.stdout, result.stderr
    result = python('-m', 'mmspike', 'print-config', 'conf.py', cwd=tmp_path)
    assert (result.returncode, result.stderr.splitlines()[-1]) == (1, 'config conf.py does not exist. Did you mean config.py?')


class Fault(UserError):
    pass


def threads() -> set[str]:
    return set(os.listdir('/proc/self/task'))


@pytest.mark.skipif(not Path('/proc/self/task').is_dir(), reason='this system does not list threads in /proc')
@pytest.mark.parametrize('error', [None, Fault('--size 3: expected 4'), RuntimeError('of a library')])
def test_run_leaves_the_process_group_and_none_of_its_threads(tmp_path, error):
    started = set()

    def work(args):
        before = threads()
        torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
        started.update(threads() - before)
        model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(1, 1))  # holds the group
        model.module.cycle = [model]
        if error:
            raise type(error)(*error.args)
        return args.status

    with pytest.raises(type(error) if isinstance(error, RuntimeError) else SystemExit) as info:
        cli.run(lambda: Namespace(status=3), work, any_environment=True)
    assert str(info.value) == (str(error) if error else '3')
    assert not torch.distributed.is_initialized()
    assert started and not started & threads()
