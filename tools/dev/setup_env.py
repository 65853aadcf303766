"""Makes ``.venv`` with exactly the versions of requirements/pinned.txt. ``make`` calls it before everything else.

It is done once: a stamp, written last, holds a hash of everything the environment depends on, and as long as it fits a call
returns at once. Without a fitting stamp ``.venv`` is made anew from nothing, because a pip that was killed can leave a package
that looks installed. mmcv's operators are compiled once per user: the wheel is kept in
``${XDG_CACHE_HOME:-~/.cache}/mmspike/wheels``, keyed by mmcv, torch, Python and platform.

Standard library only, and no syntax newer than Python 3.6, so that a wrong Python gets as far as being told so.
"""

import contextlib
import hashlib
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
import zlib
from importlib.util import find_spec

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PYTHON = (3, 11)
BUILD_TOOLS = ('setuptools', 'wheel', 'ninja', 'psutil')  # psutil: mmcv's setup.py asks it for the number of cores
MMCV = 'onedl-mmcv'
PROBE = '#include <Python.h>\n#include <vector>\nPyObject* probe() { return PyLong_FromLong(std::vector<int>(1).size()); }\n'
# Loading mmcv's operators and importing every host proves more than pip's word does.
VERIFY = (
    'from mmspike.utils.collect_env import check_environment; check_environment(); '
    'import mmcv.ops, mmdet.apis, mmseg.apis, mmpretrain.apis, spikingjelly, mmspike.models'
)
START = time.time()


class SetupError(Exception):
    """Something the user has to see and mend; its text is all that is printed."""


def say(text):
    print(f'[{time.time() - START:6.1f} s] {text}', flush=True)


def check_python():
    here = f'{sys.executable} is Python {platform.python_version()}'
    wanted = '.'.join(map(str, PYTHON))
    if sys.version_info[:2] != PYTHON:
        raise SetupError(
            f"mmspike's pinned environment needs Python {wanted}; {here}.\n"
            f'Install Python {wanted} and name it: make PYTHON=/path/to/python{wanted}\n'
            'For an environment of your own with another Python see docs/install.md.'
        )
    if sys.platform != 'linux':
        raise SetupError(f'The pinned versions are for Linux; {here} on {sys.platform}. See docs/install.md.')
    missing = [module for module in ('venv', 'ensurepip') if find_spec(module) is None]
    if missing:
        raise SetupError(
            f'{here} and has no module {missing[0]}, which makes virtual environments.\n'
            f'Install it (Debian, Ubuntu: apt-get install python{wanted}-venv) or name another Python: '
            f'make PYTHON=/path/to/python{wanted}'
        )


def check_compiler():
    """Compile and link a file that includes Python.h, the way mmcv's build will."""
    compiler = shlex.split(os.environ.get('CXX') or 'c++')
    wanted = '.'.join(map(str, PYTHON))
    mend = (
        f'Debian, Ubuntu: apt-get install g++ python{wanted}-dev; Fedora: dnf install gcc-c++ python{wanted}-devel. '
        'Another compiler is chosen with the variable CXX.'
    )
    with tempfile.TemporaryDirectory() as folder:
        source = os.path.join(folder, 'probe.cpp')
        with open(source, 'w') as file:
            file.write(PROBE)
        command = compiler + ['-std=c++17', '-fPIC', '-shared', source, '-o', os.path.join(folder, 'probe.so')]
        command += ['-I' + sysconfig.get_path(name) for name in ('include', 'platinclude')]
        try:
            result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        except OSError as error:
            raise SetupError(
                f"mmcv's operators need a C++ compiler, and {compiler[0]} cannot be run ({error}).\n{mend}"
            ) from error
    if result.returncode:
        output = result.stdout.decode(errors='replace').strip()
        cause = 'finds no Python.h of ' + sys.executable if 'Python.h' in output else 'does not compile a small C++17 file'
        raise SetupError(f"mmcv's operators need a C++ compiler, and {compiler[0]} {cause}:\n{output}\n{mend}")


def is_sound_wheel(path):
    """Whether every file in the wheel has its checksum and the compiled operators are among them."""
    try:
        with zipfile.ZipFile(path) as wheel:
            has_ops = any(re.match(r'mmcv/_ext\.[^/]*so$', name) for name in wheel.namelist())
            return has_ops and wheel.testzip() is None
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError):
        return False  # the ways in which zipfile fails on damaged bytes


class Setup:
    """One set-up of the clone at ``root``."""

    def __init__(self, root):
        self.root = os.path.realpath(root)
        self.venv = os.path.join(self.root, '.venv')
        self.python = os.path.join(self.venv, 'bin', 'python')
        self.log = os.path.join(self.venv, 'setup.log')
        self.lock = os.path.join(self.venv, 'setup.lock')
        self.stamp = os.path.join(self.venv, 'setup.stamp')
        self.temporary = os.path.join(self.venv, 'tmp')  # pip's, so that what a killed pip leaves there goes with the rest
        self.held = []  # descriptors of the locks we hold
        with open(os.path.join(self.root, 'requirements', 'pinned.txt')) as file:
            lines = [line.split('#')[0].strip() for line in file]
        self.pins = {re.split('[=; ]', line)[0]: line for line in lines if line}

    # -- is there anything to do?

    def key(self):
        """Hash of what the environment depends on; the place is part of it because a virtual environment cannot be moved."""
        digest = hashlib.sha256(f'{PYTHON} {self.venv}'.encode())
        for name in ('requirements/pinned.txt', 'setup.py', 'tools/dev/setup_env.py'):
            with open(os.path.join(self.root, *name.split('/')), 'rb') as file:
                digest.update(file.read())
        return digest.hexdigest()

    def is_done(self):
        if not os.path.isfile(self.stamp) or not os.path.exists(self.python):  # a link to a removed Python does not exist
            return False
        with open(self.stamp) as file:
            return file.read() == self.key()

    def main(self):
        if not self.is_done():
            if os.path.isdir(self.venv) and os.listdir(self.venv) and not os.path.exists(self.lock):
                raise SetupError(f'{self.venv} was not made by this set-up, so it is left alone. Move it away or remove it.')
            if self.cached_wheel() is None:
                check_compiler()
            os.makedirs(self.venv, exist_ok=True)
            with self.locked(self.lock, f'another set-up of {self.venv}'):
                if not self.is_done():  # else the one we waited for did it
                    self.make()
        say('.venv is ready')

    # -- the steps

    def make(self):
        say(f"making {self.venv} (Python {platform.python_version()}); pip's output: {self.log}")
        self.clear()
        os.mkdir(self.temporary)
        self.run(sys.executable, '-m', 'venv', self.venv)
        hosts = [name for name in self.pins if name.startswith('onedl-') and name != MMCV]
        others = [name for name in self.pins if name not in BUILD_TOOLS and name not in hosts and name != MMCV]
        say(f'installing torch and {len(self.pins) - 1} other packages')
        self.install(*[self.pins[name] for name in BUILD_TOOLS])
        self.install(*[self.pins[name] for name in others])
        self.install_mmcv()
        say('installing the OpenMMLab hosts and mmspike')
        self.install('--no-build-isolation', *[self.pins[name] for name in hosts])
        self.install('--no-build-isolation', '-e', self.root)
        say('checking that everything imports')
        self.run(self.python, '-c', VERIFY)
        shutil.rmtree(self.temporary)
        with open(self.stamp + '.new', 'w') as file:
            file.write(self.key())
        os.replace(self.stamp + '.new', self.stamp)

    def clear(self):
        """Empty ``.venv``, the stamp first and the lock, which we hold, not at all."""
        if os.path.exists(self.stamp):
            os.remove(self.stamp)
        for entry in os.scandir(self.venv):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            elif entry.path != self.lock:
                os.remove(entry.path)

    def install(self, *arguments):
        # Bytecode of the many modules that are never imported costs a third of the time: --no-compile.
        options = ['--no-deps', '--no-compile', '--no-input', '--progress-bar', 'off']
        self.run(self.python, '-m', 'pip', 'install', *options, *arguments)

    def install_mmcv(self):
        wheel = self.cached_wheel()
        if wheel is not None:
            say(f'installing mmcv from {wheel}')
            self.install(wheel)
            if self.loads_ops():
                return
            say('that wheel does not load here; building it again')
            check_compiler()
            with contextlib.suppress(FileNotFoundError):  # another clone's set-up removed it first
                os.remove(wheel)
        self.install('--force-reinstall', self.build_wheel())
        if not self.loads_ops():
            raise SetupError(f'The mmcv wheel built just now does not load:\n{self.log_tail()}')

    def loads_ops(self):
        # The .so alone: mmcv itself needs mmengine, which is not there yet.
        code = (
            'import ctypes, glob, sysconfig, torch; '
            '[ctypes.CDLL(f) for f in glob.glob(sysconfig.get_path("platlib") + "/mmcv/_ext.*so")]'
        )
        try:
            self.run(self.python, '-c', code)
        except SetupError:
            return False
        return True

    # -- the wheel of mmcv

    def wheel_folder(self):
        cache = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
        torch = self.pins['torch'].replace('==', '')
        machine = '-'.join([sysconfig.get_platform(), *platform.libc_ver()]).rstrip('-')
        name = f'{self.pins[MMCV].replace("==", "-")}-{torch}-cp{PYTHON[0]}{PYTHON[1]}-{machine}'
        return os.path.join(cache, 'mmspike', 'wheels', name)

    def cached_wheel(self):
        """Path of the wheel in the cache, or None. A damaged one is removed."""
        folder = self.wheel_folder()
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
            path = os.path.join(folder, name)
            if name.endswith('.whl'):
                if is_sound_wheel(path):
                    return path
                say(f'{path} is damaged: removed, mmcv will be built again')
                with contextlib.suppress(FileNotFoundError):  # another clone's set-up removed it first
                    os.remove(path)
        return None

    def build_wheel(self):
        """Compile mmcv in a folder beside its place in the cache and move the wheel there in one step."""
        folder = self.wheel_folder()
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            raise SetupError(
                f'Cannot write the wheel cache {folder} ({error}). Set XDG_CACHE_HOME to a folder of yours.'
            ) from error
        with self.locked(os.path.join(folder, 'lock'), 'another clone that builds the mmcv wheel'):
            wheel = self.cached_wheel()
            if wheel is not None:
                return wheel
            for name in os.listdir(folder):
                if name.startswith('build-'):  # of a build that was killed
                    shutil.rmtree(os.path.join(folder, name))
            jobs = os.environ.get('MAX_JOBS') or str(os.cpu_count())
            say(f"compiling mmcv's operators with {jobs} jobs: 7 to 18 minutes with 2, once per user")
            environment = {'MMCV_WITH_OPS': '1', 'FORCE_CUDA': '0', 'CUDA_VISIBLE_DEVICES': '', 'MAX_JOBS': jobs}
            with tempfile.TemporaryDirectory(prefix='build-', dir=folder) as out:
                # pip's own wheel cache knows nothing of the torch a wheel was built against: --no-cache-dir.
                options = ['--no-deps', '--no-input', '--no-build-isolation', '--no-cache-dir', '--no-binary', MMCV]
                self.run(self.python, '-m', 'pip', 'wheel', *options, '-w', out, self.pins[MMCV], **environment)
                built = [os.path.join(out, name) for name in os.listdir(out) if name.endswith('.whl')]
                if len(built) != 1 or not is_sound_wheel(built[0]):
                    raise SetupError(f'pip built {built} instead of one mmcv wheel with operators:\n{self.log_tail()}')
                wheel = os.path.join(folder, os.path.basename(built[0]))
                os.replace(built[0], wheel)
            return wheel

    # -- processes

    @contextlib.contextmanager
    def locked(self, path, other):
        import fcntl  # not at the top: Windows has none, and check_python has to get as far as naming it

        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.stop_orphan()
                say(f'waiting for {other}')
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.ftruncate(descriptor, 0)
            self.held.append(descriptor)
            yield
            self.held.remove(descriptor)
            os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)

    def stop_orphan(self):
        """Kill the command that a killed set-up of this clone left running: it holds the lock, and its work is lost anyway."""
        with open(self.lock) as file:
            record = file.read().split()  # see run()
        if len(record) == 3 and record[0] == platform.node():
            owner, group = int(record[1]), int(record[2])
            try:
                os.kill(owner, 0)
            except ProcessLookupError:
                say(f'stopping what an interrupted set-up left running (process group {group})')
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(group, signal.SIGKILL)
            except PermissionError:
                pass  # alive, and another user's

    def run(self, *command, **environment):
        """Run ``command`` with its output in the log; SetupError with the end of the log when it fails.

        The child inherits the locks, so that they stay held until it has ended, too, should this process be killed outright;
        the lock file names both for stop_orphan().
        """
        scrubbed = ('PYTHONPATH', 'PYTHONHOME', 'PIP_USER', 'PIP_TARGET', 'PIP_PREFIX', 'PIP_NO_BINARY')
        env = {name: value for name, value in os.environ.items() if name not in scrubbed}
        env.update(environment, TMPDIR=self.temporary)
        with open(self.log, 'ab') as log:
            log.write(f'$ {" ".join(command)}\n'.encode())
            log.flush()
            process = subprocess.Popen(
                command, cwd=self.root, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                pass_fds=self.held, start_new_session=True,
            )  # fmt: skip
            os.ftruncate(self.held[0], 0)
            os.pwrite(self.held[0], f'{platform.node()} {os.getpid()} {process.pid}\n'.encode(), 0)
            try:
                while process.poll() is None:
                    try:
                        process.wait(timeout=120)
                    except subprocess.TimeoutExpired:
                        say('still at it')
            except BaseException:  # Ctrl-C, SIGTERM: take pip and its compilers along
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise
        if process.returncode:
            raise SetupError(f'Failed ({process.returncode}): {" ".join(command)[:200]}\n{self.log_tail()}')

    def log_tail(self):
        with open(self.log, errors='replace') as file:
            lines = file.read().splitlines()[-25:]
        return '\n'.join(['The end of ' + self.log + ':', *['  ' + line for line in lines]])


def main():
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(number, lambda number, frame: sys.exit(128 + number))
    try:
        check_python()
        Setup(ROOT).main()
    except SetupError as error:
        sys.exit(f'Set-up stopped. {error}')
    except KeyboardInterrupt:
        sys.exit('Set-up interrupted; the next call starts it again.')


if __name__ == '__main__':
    main()
