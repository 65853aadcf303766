"""The set-up script with the downloads left out: the commands it would run are recorded, or replaced by harmless ones."""

import ast
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from packaging.requirements import Requirement

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / 'tools' / 'dev' / 'setup_env.py'

spec = importlib.util.spec_from_file_location('setup_env', SCRIPT)
setup_env = importlib.util.module_from_spec(spec)
spec.loader.exec_module(setup_env)


def perform(setup, command):
    """What of a command's effect the set-up relies on."""
    if command[1:3] == ('-m', 'venv'):
        python = Path(setup.python)
        python.parent.mkdir()
        python.touch()


@pytest.fixture
def clone(tmp_path):
    """Folder with the files that a set-up reads."""
    root = tmp_path / 'clone'
    for name in ('requirements/pinned.txt', 'setup.py', 'tools/dev/setup_env.py'):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, root / name)
    return root


@pytest.fixture
def commands(monkeypatch):
    """Commands that were run, in place of running them."""
    recorded = []

    def run(self, *command):
        recorded.append(command)
        perform(self, command)

    monkeypatch.setattr(setup_env.Setup, 'run', run)
    return recorded


def test_script_parses_on_old_pythons():
    ast.parse(SCRIPT.read_text(), feature_version=(3, 6))


def test_wrong_python_is_named_before_anything_else(clone):
    script = clone / 'tools' / 'dev' / 'setup_env.py'
    script.write_text(SCRIPT.read_text().replace("PYTHONS = ('3.11', '3.12', '3.13')", "PYTHONS = ('3.97', '3.98', '3.99')"))
    result = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert result.returncode == 1
    assert f'needs Python 3.97, 3.98 or 3.99; {sys.executable} is Python 3.' in result.stderr
    assert 'make PYTHON=/path/to/python3.99' in result.stderr
    assert not (clone / '.venv').exists()


@pytest.mark.parametrize(
    'module, text',
    [('ensurepip', 'without the module ensurepip.*\n.*apt-get install python3'), ('fcntl', 'needs Linux or macOS')],
)
def test_python_without_a_module_that_is_needed_is_named(monkeypatch, module, text):
    monkeypatch.setattr(setup_env, 'find_spec', lambda name: None if name == module else object())
    with pytest.raises(setup_env.SetupError, match=text):
        setup_env.check_python()


def test_every_pin_is_installed_without_its_dependencies_and_the_hosts_before_torch(clone, commands):
    setup_env.Setup(clone).main()
    installs = [command for command in commands if 'install' in command]
    assert all('--no-deps' in command for command in installs)
    tools, hosts, everything, mmspike = installs
    assert 'onedl-mmcv==2.3.6' in hosts and '--no-build-isolation' in hosts
    assert not any(argument.startswith('torch') for argument in (*tools, *hosts))
    assert everything[-2:] == ('-r', str(clone / 'requirements' / 'pinned.txt'))
    assert mmspike[-2:] == ('-e', str(clone))


def test_second_call_does_nothing(clone, commands, capsys):
    setup_env.Setup(clone).main()
    commands.clear()
    setup_env.Setup(clone).main()
    assert commands == []
    assert '.venv is ready' in capsys.readouterr().out


def change_pin(clone, monkeypatch):
    pinned = clone / 'requirements' / 'pinned.txt'
    pinned.write_text(pinned.read_text().replace('six==1.17.0', 'six==1.16.0'))


def remove_interpreter(clone, monkeypatch):
    (clone / '.venv' / 'bin' / 'python').unlink()


def choose_another_python(clone, monkeypatch):
    monkeypatch.setattr(sys, 'version_info', (3, 99, 0, 'final', 0))


@pytest.mark.parametrize('change', [change_pin, remove_interpreter, choose_another_python])
def test_environment_is_made_again_when_it_no_longer_fits(clone, commands, monkeypatch, change):
    setup_env.Setup(clone).main()
    commands.clear()
    change(clone, monkeypatch)
    assert not setup_env.Setup(clone).is_done()
    setup_env.Setup(clone).main()
    assert setup_env.Setup(clone).is_done() and commands


def test_copied_environment_is_made_again(clone, commands, tmp_path):
    setup_env.Setup(clone).main()
    shutil.copytree(clone, tmp_path / 'copy')
    assert not setup_env.Setup(tmp_path / 'copy').is_done()


def test_foreign_environment_is_left_alone(clone, commands):
    (clone / '.venv').mkdir()
    (clone / '.venv' / 'pyvenv.cfg').write_text('home = /elsewhere')
    with pytest.raises(setup_env.SetupError, match='was not made by this set-up'):
        setup_env.Setup(clone).main()
    assert commands == []
    assert os.listdir(clone / '.venv') == ['pyvenv.cfg']


@pytest.mark.parametrize('error', [KeyboardInterrupt, OSError])
def test_stopped_at_any_command_it_leaves_nothing_half_made_and_the_next_call_completes(clone, commands, monkeypatch, error):
    setup_env.Setup(clone).main()
    count = len(commands)
    assert count >= 6
    record = setup_env.Setup.run
    for step in range(count):
        commands.clear()
        (clone / '.venv' / 'setup.stamp').unlink()

        def stopped(self, *command, step=step):
            if len(commands) == step:
                (Path(self.venv) / 'half-installed').mkdir()
                raise error
            record(self, *command)

        monkeypatch.setattr(setup_env.Setup, 'run', stopped)
        with pytest.raises(error):
            setup_env.Setup(clone).main()
        assert os.listdir(clone / '.venv') == ['setup.lock']

        monkeypatch.setattr(setup_env.Setup, 'run', record)
        setup_env.Setup(clone).main()
        assert setup_env.Setup(clone).is_done()


def fail(clone, output):
    """Run a set-up of ``clone`` whose first command fails after it has written ``output``."""
    run = setup_env.Setup.run
    try:
        setup_env.Setup.run = lambda self, *command: run(self, 'sh', '-c', 'echo "$0" >&2; exit 3', output)
        with pytest.raises(setup_env.SetupError) as failure:
            setup_env.Setup(clone).main()
    finally:
        setup_env.Setup.run = run
    return str(failure.value)


@pytest.mark.parametrize(
    'output, remedy',
    [
        ('ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device', 'The disk is full'),
        ('ERROR: Could not find a version that satisfies the requirement six==1.17.0 (from versions: none)', 'PIP_INDEX_URL'),
        ("connection broken by 'NewConnectionError(Connection refused)': /simple/six/", 'Check the network'),
        ('error: something else', ''),
    ],
)
def test_failure_shows_the_end_of_the_log_and_the_remedy(clone, output, remedy):
    text = fail(clone, output)
    assert 'Failed (3): sh -c' in text
    assert f'\n  {output}\n' in text
    assert remedy in text
    assert ('disk' in text) == ('disk' in remedy) and ('PIP_INDEX_URL' in text) == (remedy not in ('', 'The disk is full'))
    assert text.endswith('The next call starts anew.')
    assert sorted(os.listdir(clone / '.venv')) == ['setup.lock', 'setup.log']


def test_folder_that_cannot_be_written_is_named(clone, capsys):
    (clone / '.venv').write_text('a file')
    script = clone / 'tools' / 'dev' / 'setup_env.py'
    result = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert result.returncode == 1 and 'Traceback' not in result.stderr
    assert str(clone / '.venv') in result.stderr


DRIVER = """
import os, sys
sys.path.insert(0, {tests!r})
from test_setup_env import perform, setup_env

real_run = setup_env.Setup.run
def run(self, *command):
    if '-e' in command:  # the last install
        with open({events!r}, 'a') as file:
            file.write(f'begin {{os.getpid()}}\\n')
        real_run(self, 'sh', '-c', 'until [ -e "$0" ]; do sleep 0.05; done', {gate!r})
        with open({events!r}, 'a') as file:
            file.write(f'end {{os.getpid()}}\\n')
    perform(self, command)
setup_env.Setup.run = run
setup_env.ROOT = {root!r}
setup_env.main()
"""


class Process:
    """A set-up of ``clone`` whose last install ends when the file ``gate`` is there; all other commands do nothing."""

    def __init__(self, clone):
        self.clone, self.events, self.gate = clone, clone / 'events', clone / 'gate'
        names = dict(tests=str(Path(__file__).parent), root=str(clone), events=str(self.events), gate=str(self.gate))
        command = [sys.executable, '-c', textwrap.dedent(DRIVER).format(**names)]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # a suite that runs in the background ignores Ctrl-C, and so would what it starts
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def install(self):
        """Process id of the running install, as the lock file gives it; waits for it."""
        lock = self.clone / '.venv' / 'setup.lock'
        while self.process.poll() is None:
            record = lock.read_text().split() if lock.exists() else []
            if len(record) == 3 and int(record[1]) == self.process.pid:
                return int(record[2])
            time.sleep(0.02)
        raise AssertionError(self.process.stdout.read())

    def output_up_to(self, text):
        """The lines printed until one has ``text``; waits for it."""
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if text in line:
                return lines
        raise AssertionError(''.join(lines))

    def finish(self):
        output, _ = self.process.communicate()
        return output


@pytest.fixture
def start(clone):
    """Starts set-ups of ``clone``, and ends at last whatever of them still runs."""
    started = []

    def start():
        started.append(Process(clone))
        return started[-1]

    yield start
    (clone / 'gate').touch()
    for one in started:
        one.process.kill()
        one.process.wait()
        one.process.stdout.close()


def is_running(process):
    status = Path(f'/proc/{process}/stat')
    return status.exists() and status.read_text().rsplit(')', 1)[1].split()[0] != 'Z'


needs_proc = pytest.mark.skipif(not Path('/proc').exists(), reason='looks processes up in /proc')


@needs_proc
def test_killed_outright_the_next_call_stops_what_is_left_and_completes(clone, start):
    killed = start()
    install = killed.install()
    killed.process.kill()
    killed.process.wait()
    assert is_running(install)

    second = start()
    second.output_up_to(f'process group {install}')
    second.output_up_to('making')
    assert not is_running(install), 'the lock is had only after its end'
    second.gate.touch()
    output = second.finish()
    assert second.process.returncode == 0, output
    assert [line.split()[0] for line in second.events.read_text().splitlines()] == ['begin', 'begin', 'end']
    assert setup_env.Setup(clone).is_done()


@needs_proc
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_takes_pip_along_and_leaves_nothing_half_made(clone, start, number):
    stopped = start()
    install = stopped.install()
    stopped.process.send_signal(number)
    stopped.finish()
    assert stopped.process.returncode != 0
    assert not is_running(install)
    assert sorted(os.listdir(clone / '.venv')) == ['setup.lock', 'setup.log']


def test_two_calls_at_once_do_it_once(start):
    first = start()
    first.install()
    second = start()
    second.output_up_to('waiting for another set-up')
    first.gate.touch()
    outputs = [first.finish(), second.finish()]
    assert [first.process.returncode, second.process.returncode] == [0, 0], outputs
    assert first.events.read_text().split() == ['begin', str(first.process.pid), 'end', str(first.process.pid)]


@pytest.mark.parametrize('python', setup_env.PYTHONS)
@pytest.mark.parametrize('system, machine', [('Linux', 'x86_64'), ('Linux', 'aarch64'), ('Darwin', 'arm64')])
def test_every_python_and_platform_gets_one_exact_pin_of_each_package(python, system, machine):
    lines = [line for line in (REPOSITORY / 'requirements' / 'pinned.txt').read_text().splitlines() if line[0] != '#']
    environment = dict(
        python_version=python, platform_system=system, sys_platform=system.lower(), platform_machine=machine, extra=''
    )
    pins = [Requirement(line) for line in lines]
    pins = [pin for pin in pins if pin.marker is None or pin.marker.evaluate(environment)]
    assert [str(pin) for pin in pins if not re.fullmatch(r'==[\w.]+', str(pin.specifier))] == []
    names = [pin.name for pin in pins]
    assert len(set(names)) == len(names)
    assert {'torch', 'torchvision', 'numpy', 'onedl-mmcv'} < set(names)
    assert {'opencv-python', 'pip'}.isdisjoint(names)
    assert any(name.startswith('nvidia-') for name in names) == (system == 'Linux')


@pytest.fixture
def chosen(tmp_path):
    """The interpreter that make takes where only the given commands are on PATH; those that fail are written with a '-'."""

    def chosen(*commands, arguments=()):
        folder = tmp_path / 'bin'
        folder.mkdir()
        for name in ('make', 'sh', 'sed', 'echo', 'test'):
            (folder / name).symlink_to(shutil.which(name))
        for name in commands:
            command = folder / name.lstrip('-')
            command.write_text(f'#!/bin/sh\nexit {int(name.startswith("-"))}\n')
            command.chmod(0o755)
        (tmp_path / 'Makefile').write_text((REPOSITORY / 'Makefile').read_text())
        command = ['make', '-n', 'setup', *arguments]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=dict(PATH=str(folder)), check=True)
        return result.stdout.splitlines()[-1].removesuffix(' tools/dev/setup_env.py')

    return chosen


@pytest.mark.parametrize(
    'commands, expected',
    [
        (('python3.13', 'python3.12', 'python3.11', 'python3'), 'python3.13'),
        (('-python3.13', 'python3.12', 'python3.11'), 'python3.12'),  # as the shim of a version that is not selected
        (('-python3.13', '-python3.12', 'python3'), 'python3'),
    ],
)
def test_make_takes_the_newest_python_that_runs(chosen, commands, expected):
    assert chosen(*commands) == expected


def test_make_keeps_the_python_of_the_environment_and_lets_one_be_named(chosen, tmp_path):
    (tmp_path / '.venv').mkdir()
    (tmp_path / '.venv' / 'pyvenv.cfg').write_text(f'home = /nowhere\nexecutable = {tmp_path}/bin/python3.12\n')
    assert chosen('python3.13', 'python3.12') == f'{tmp_path}/bin/python3.12'


def test_make_takes_the_python_that_is_named(chosen):
    assert chosen('python3.13', 'python3.12', arguments=['PYTHON=/opt/python']) == '/opt/python'


def test_make_without_python_says_so():
    result = subprocess.run(['make', 'setup', 'PYTHON='], cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode != 0
    assert 'make PYTHON=/path/to/python3.13' in result.stderr
