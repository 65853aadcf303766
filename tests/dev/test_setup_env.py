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
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / 'tools' / 'dev' / 'setup_env.py'
WHEEL = 'onedl_mmcv-2.3.6-cp311-cp311-linux_x86_64.whl'

spec = importlib.util.spec_from_file_location('setup_env', SCRIPT)
setup_env = importlib.util.module_from_spec(spec)
spec.loader.exec_module(setup_env)

needs_compiler = pytest.mark.skipif(shutil.which('c++') is None, reason='no C++ compiler here')


def write_wheel(folder, operators='mmcv/_ext.cpython-311-x86_64-linux-gnu.so'):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / WHEEL, 'w') as wheel:
        wheel.writestr('mmcv/__init__.py', '')
        wheel.writestr(operators, os.urandom(5000))
    return folder / WHEEL


def perform(setup, command):
    """What of a command's effect the set-up relies on."""
    if command[1:3] == ('-m', 'venv'):
        python = Path(setup.python)
        python.parent.mkdir()
        python.touch()
    elif 'wheel' in command:
        write_wheel(command[command.index('-w') + 1])


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """Folder with the files that a set-up reads, and a wheel cache of its own."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    root = tmp_path / 'clone'
    for name in ('requirements/pinned.txt', 'setup.py', 'tools/dev/setup_env.py'):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, root / name)
    return root


@pytest.fixture
def commands(monkeypatch):
    """Commands that were run, in place of running them."""
    recorded = []

    def run(self, *command, **environment):
        recorded.append(command)
        perform(self, command)

    monkeypatch.setattr(setup_env.Setup, 'run', run)
    return recorded


def test_script_parses_on_old_pythons():
    ast.parse(SCRIPT.read_text(), feature_version=(3, 6))


def test_wrong_python_is_named_before_anything_else(clone):
    script = clone / 'tools' / 'dev' / 'setup_env.py'
    script.write_text(SCRIPT.read_text().replace('PYTHON = (3, 11)', 'PYTHON = (3, 99)'))
    result = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert result.returncode == 1
    assert f'needs Python 3.99; {sys.executable} is Python 3.' in result.stderr
    assert 'make PYTHON=/path/to/python3.99' in result.stderr
    assert not (clone / '.venv').exists()


def test_python_without_venv_is_named(monkeypatch):
    monkeypatch.setattr(setup_env, 'find_spec', lambda name: None if name == 'ensurepip' else object())
    with pytest.raises(setup_env.SetupError, match='no module ensurepip.*\n.*apt-get install python3.11-venv'):
        setup_env.check_python()


@needs_compiler
def test_compiler_that_works_is_accepted():
    setup_env.check_compiler()


@needs_compiler
def test_missing_python_headers_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(setup_env.sysconfig, 'get_path', lambda name: str(tmp_path))
    with pytest.raises(setup_env.SetupError, match=r'(?s)finds no Python\.h of .*python3\.11-dev'):
        setup_env.check_compiler()


@pytest.mark.parametrize(
    'compiler, cause', [('/no/such/c++', '/no/such/c\\+\\+ cannot be run'), ('false', 'false does not compile')]
)
def test_missing_or_broken_compiler_stops_before_any_download(monkeypatch, clone, commands, compiler, cause):
    monkeypatch.setenv('CXX', compiler)
    with pytest.raises(setup_env.SetupError, match=f'(?s){cause}.*apt-get install g\\+\\+'):
        setup_env.Setup(clone).main()
    assert commands == []
    assert not (clone / '.venv').exists()


def test_cached_wheel_needs_no_compiler(monkeypatch, clone, commands):
    monkeypatch.setenv('CXX', '/no/such/c++')
    setup = setup_env.Setup(clone)
    wheel = write_wheel(setup.wheel_folder())
    setup.main()
    assert any(str(wheel) in command for command in commands)
    assert not any('wheel' in command for command in commands)


@needs_compiler
def test_every_pin_is_installed_once_and_without_its_dependencies(clone, commands):
    setup = setup_env.Setup(clone)
    setup.main()
    installed = [argument for command in commands if 'install' in command for argument in command if '==' in argument]
    assert sorted(installed) == sorted(pin for name, pin in setup.pins.items() if name != 'onedl-mmcv')
    assert all('--no-deps' in command for command in commands if 'pip' in command)
    builds = [command for command in commands if 'wheel' in command]
    assert len(builds) == 1 and 'onedl-mmcv==2.3.6' in builds[0]
    assert os.listdir(setup.wheel_folder()) != []


@needs_compiler
def test_second_call_does_nothing(clone, commands, capsys):
    setup_env.Setup(clone).main()
    commands.clear()
    setup_env.Setup(clone).main()
    assert commands == []
    assert '.venv is ready' in capsys.readouterr().out


def change_pin(clone):
    pinned = clone / 'requirements' / 'pinned.txt'
    pinned.write_text(pinned.read_text().replace('six==1.17.0', 'six==1.16.0'))


def remove_interpreter(clone):
    (clone / '.venv' / 'bin' / 'python').unlink()


@needs_compiler
@pytest.mark.parametrize('change', [change_pin, remove_interpreter])
def test_environment_is_made_again_when_it_no_longer_fits(clone, commands, change):
    setup_env.Setup(clone).main()
    commands.clear()
    change(clone)
    assert not setup_env.Setup(clone).is_done()
    setup_env.Setup(clone).main()
    assert setup_env.Setup(clone).is_done()
    assert not any('wheel' in command for command in commands), 'the wheel was in the cache'


@needs_compiler
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


@needs_compiler
def test_interrupted_at_any_command_the_next_call_completes(clone, commands, monkeypatch):
    setup_env.Setup(clone).main()
    count = len(commands)
    assert count >= 8
    record = setup_env.Setup.run
    for step in range(count):
        shutil.rmtree(clone / '.venv')
        shutil.rmtree(os.environ['XDG_CACHE_HOME'])
        commands.clear()

        def interrupted(self, *command, step=step, **environment):
            if len(commands) == step:
                (Path(self.venv) / 'half-installed').mkdir()
                raise KeyboardInterrupt
            record(self, *command, **environment)

        monkeypatch.setattr(setup_env.Setup, 'run', interrupted)
        with pytest.raises(KeyboardInterrupt):
            setup_env.Setup(clone).main()
        assert not setup_env.Setup(clone).is_done()

        monkeypatch.setattr(setup_env.Setup, 'run', record)
        setup_env.Setup(clone).main()
        assert setup_env.Setup(clone).is_done()
        assert not (clone / '.venv' / 'half-installed').exists()


def truncate(wheel):
    wheel.write_bytes(wheel.read_bytes()[:3000])


def flip_byte(wheel):
    content = bytearray(wheel.read_bytes())
    content[2000] ^= 0xFF
    wheel.write_bytes(content)


def replace_by_text(wheel):
    wheel.write_text('no wheel')


def leave_out_operators(wheel):
    write_wheel(wheel.parent, operators='mmcv/other.py')


@needs_compiler
@pytest.mark.parametrize('damage', [truncate, flip_byte, replace_by_text, leave_out_operators])
def test_damaged_wheel_is_built_again(clone, commands, capsys, damage):
    setup = setup_env.Setup(clone)
    wheel = write_wheel(setup.wheel_folder())
    assert setup_env.is_sound_wheel(wheel)
    damage(wheel)
    assert not setup_env.is_sound_wheel(wheel)
    setup.main()
    assert f'{wheel} is damaged' in capsys.readouterr().out
    assert sum('wheel' in command for command in commands) == 1
    assert setup_env.is_sound_wheel(wheel)


@needs_compiler
def test_cached_wheel_that_does_not_load_is_built_again(clone, commands, monkeypatch):
    setup = setup_env.Setup(clone)
    write_wheel(setup.wheel_folder())
    answers = [False, True]
    monkeypatch.setattr(setup_env.Setup, 'loads_ops', lambda self: answers.pop(0))
    setup.main()
    assert sum('wheel' in command for command in commands) == 1
    assert answers == []


@needs_compiler
def test_remains_of_a_killed_build_are_removed(clone, commands):
    setup = setup_env.Setup(clone)
    write_wheel(Path(setup.wheel_folder(), 'build-killed'))
    assert setup.cached_wheel() is None
    setup.main()
    assert sorted(os.listdir(setup.wheel_folder())) == ['lock', WHEEL]


def test_wheel_cache_is_keyed_by_mmcv_torch_and_python(clone):
    name = Path(setup_env.Setup(clone).wheel_folder())
    assert name.parent == Path(os.environ['XDG_CACHE_HOME'], 'mmspike', 'wheels')
    assert name.name.startswith('onedl-mmcv-2.3.6-torch2.11.0-cp311-')


DRIVER = """
import importlib.util, os, sys, time
sys.path.insert(0, {tests!r})
import test_setup_env
from test_setup_env import perform, setup_env

real_run = setup_env.Setup.run
def run(self, *command, **environment):
    if '-e' in command:  # the last install
        with open({events!r}, 'a') as file:
            file.write(f'begin {{os.getpid()}}\\n')
        real_run(self, 'sleep', {seconds!r})
        with open({events!r}, 'a') as file:
            file.write(f'end {{os.getpid()}}\\n')
    perform(self, command)
setup_env.Setup.run = run
setup_env.ROOT = {root!r}
setup_env.main()
"""


def start(clone, seconds):
    """Start a set-up of ``clone`` whose last install takes ``seconds``; all other commands take none."""
    events = clone / 'events'
    names = dict(tests=str(Path(__file__).parent), root=str(clone), events=str(events), seconds=str(seconds))
    write_wheel(setup_env.Setup(clone).wheel_folder())
    command = [sys.executable, '-c', textwrap.dedent(DRIVER).format(**names)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True), events


def wait_for_sleep(clone):
    """Process id of the running install, as the lock file gives it."""
    lock = clone / '.venv' / 'setup.lock'
    deadline = time.time() + 20
    while time.time() < deadline:
        record = lock.read_text().split() if lock.exists() else []
        if len(record) == 3:
            return int(record[2])
        time.sleep(0.02)
    raise AssertionError('the set-up did not get to its install within 20 s')


def is_running(process):
    status = Path(f'/proc/{process}/stat')
    return status.exists() and status.read_text().rsplit(')', 1)[1].split()[0] != 'Z'


@pytest.mark.skipif(not Path('/proc').exists(), reason='looks processes up in /proc')
def test_killed_outright_the_next_call_stops_what_is_left_and_completes(clone):
    killed, events = start(clone, 60)
    install = wait_for_sleep(clone)
    killed.kill()
    killed.communicate()
    assert is_running(install)

    second, _ = start(clone, 0)
    output, _ = second.communicate(timeout=30)
    assert second.returncode == 0, output
    assert f'process group {install}' in output
    assert not is_running(install)
    assert [line.split()[0] for line in events.read_text().splitlines()] == ['begin', 'begin', 'end']
    assert setup_env.Setup(clone).is_done()


@pytest.mark.skipif(not Path('/proc').exists(), reason='looks processes up in /proc')
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_takes_pip_along(clone, number):
    stopped, _ = start(clone, 60)
    install = wait_for_sleep(clone)
    stopped.send_signal(number)
    stopped.communicate(timeout=10)
    assert stopped.returncode != 0
    assert not is_running(install)
    assert not setup_env.Setup(clone).is_done()


def test_two_calls_at_once_do_it_once(clone):
    first, events = start(clone, 2)
    wait_for_sleep(clone)
    second, _ = start(clone, 2)
    outputs = [process.communicate(timeout=30)[0] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], outputs
    assert 'waiting for another set-up' in outputs[1]
    assert events.read_text().split() == ['begin', str(first.pid), 'end', str(first.pid)]


def test_failure_shows_the_end_of_the_log(clone):
    setup = setup_env.Setup(clone)
    os.makedirs(setup.venv)
    with setup.locked(setup.lock, 'nobody'), pytest.raises(setup_env.SetupError) as failure:
        setup.run('sh', '-c', 'echo no matching distribution >&2; exit 3')
    assert 'Failed (3): sh -c' in str(failure.value)
    assert str(failure.value).splitlines()[-1] == '  no matching distribution'


def test_pins_are_exact():
    pins = setup_env.Setup(REPOSITORY).pins.values()
    assert [pin for pin in pins if not re.fullmatch(r'[\w.-]+==[\w.]+', pin)] == []
    assert {'opencv-python', 'pip'}.isdisjoint(setup_env.Setup(REPOSITORY).pins)


def test_make_without_python_says_so():
    result = subprocess.run(['make', 'setup', 'PYTHON='], cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode != 0
    assert 'make PYTHON=/path/to/python3.11' in result.stderr
