"""Makes ``.venv`` with exactly the versions of requirements/pinned.txt. ``make`` calls it before everything else.

It is done once: a stamp, written last, holds a hash of everything the environment depends on, and as long as it fits a call
returns at once. Without a fitting stamp ``.venv`` is made anew from nothing, because a pip that was killed can leave a package
that looks installed.

Standard library only, and no syntax newer than Python 3.6, so that a wrong Python gets as far as being told so.
"""

import contextlib
import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PYTHONS = ('3.11', '3.12', '3.13')
# Importing every host proves more than pip's word does. mmspike comes first: it provides the operators of mmcv.
VERIFY = (
    'from mmspike.utils.collect_env import check_environment; check_environment(); '
    'import mmspike.models, mmcv.ops, mmdet.apis, mmseg.apis, mmpretrain.apis, spikingjelly'
)
# What the log of a command that failed says -> what to do
REMEDIES = {
    'No space left on device|Disk quota exceeded': (
        'The disk is full. While it is made .venv takes 10 GB, then 7; pip keeps 3 GB of downloads in its cache.'
    ),
    'connection broken by|from versions: none|ReadTimeoutError|ProtocolError|ProxyError|SSLError': (
        'pip did not find the package. Check the network and the proxy (https_proxy). A mirror of the package index is named '
        'by PIP_INDEX_URL, a folder with wheels by PIP_FIND_LINKS.'
    ),
}
START = time.time()


class SetupError(Exception):
    """Something the user has to see and mend; its text is all that is printed."""


def say(text):
    print(f'[{time.time() - START:6.1f} s] {text}', flush=True)


def check_python():
    here = f'{sys.executable} is Python {platform.python_version()} on {sys.platform}'
    this = 'python{}.{}'.format(*sys.version_info)
    another = 'name the Python: make PYTHON=/path/to/python' + PYTHONS[-1]
    if this[6:] not in PYTHONS:
        wanted = f'{", ".join(PYTHONS[:-1])} or {PYTHONS[-1]}'
        raise SetupError(f"mmspike's pinned environment needs Python {wanted}; {here}.\nInstall one and {another}")
    if find_spec('fcntl') is None:
        raise SetupError(f'This set-up needs Linux or macOS; {here}. docs/install.md has the way with pip alone.')
    for module in ('venv', 'ensurepip'):
        if find_spec(module) is None:
            install = f'(Debian, Ubuntu: apt-get install {this}-venv)'
            raise SetupError(f'{here}, without the module {module}, which makes .venv.\nInstall it {install} or {another}')


class Setup:
    """One set-up of the clone at ``root``."""

    def __init__(self, root):
        self.root = os.path.realpath(root)
        self.pinned = os.path.join(self.root, 'requirements', 'pinned.txt')
        self.venv = os.path.join(self.root, '.venv')
        inside = ('bin/python', 'setup.log', 'setup.lock', 'setup.stamp', 'tmp')  # tmp: what a killed pip leaves goes with it
        self.python, self.log, self.lock, self.stamp, self.temporary = (os.path.join(self.venv, name) for name in inside)

    def key(self):
        """Hash of what the environment depends on; the place is part of it because a virtual environment cannot be moved."""
        digest = hashlib.sha256(f'{sys.version_info[:2]} {self.venv}'.encode())
        for name in ('requirements/pinned.txt', 'setup.py', 'tools/dev/setup_env.py'):
            with open(os.path.join(self.root, name), 'rb') as file:
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
            os.makedirs(self.venv, exist_ok=True)
            with self.locked():
                if not self.is_done():  # else the one we waited for did it
                    self.clear(keep=[self.lock])
                    try:
                        self.make()
                    except BaseException:
                        self.clear(keep=[self.lock, self.log])  # nothing half-made stays
                        raise
        say('.venv is ready')

    def make(self):
        say(f"making {self.venv} (Python {platform.python_version()}); pip's output: {self.log}")
        os.mkdir(self.temporary)
        self.run(sys.executable, '-m', 'venv', self.venv)
        with open(self.pinned) as file:
            pins = [line for line in (line.split('#')[0].strip() for line in file) if line]
        # mmcv compiles its operators where it finds torch, so it comes before. The pinned setuptools builds it.
        hosts = [pin for pin in pins if pin.startswith('onedl-')]
        say(f'installing {len(hosts)} OpenMMLab packages')
        self.install(*[pin for pin in pins if re.match('(setuptools|packaging)==', pin)])
        self.install('--no-build-isolation', *hosts)
        say(f'installing torch and {len(pins) - len(hosts) - 1} other packages')
        self.install('-r', self.pinned)
        self.install('--no-build-isolation', '-e', self.root)
        say('checking that everything imports')
        self.run(self.python, '-c', VERIFY)
        shutil.rmtree(self.temporary)
        with open(self.stamp + '.new', 'w') as file:
            file.write(self.key())
        os.replace(self.stamp + '.new', self.stamp)

    def clear(self, keep):
        """Empty ``.venv``, the stamp first and the lock, which we hold, not at all."""
        if os.path.exists(self.stamp):
            os.remove(self.stamp)
        for entry in os.scandir(self.venv):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            elif entry.path not in keep:
                os.remove(entry.path)

    def install(self, *arguments):
        # Bytecode of the many modules that are never imported costs a third of the time: --no-compile.
        options = ['--no-deps', '--no-compile', '--no-input', '--progress-bar', 'off']
        self.run(self.python, '-m', 'pip', 'install', *options, *arguments)

    @contextlib.contextmanager
    def locked(self):
        import fcntl  # not at the top: Windows has none, and check_python has to get as far as naming it

        self.descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.stop_orphan()
                say(f'waiting for another set-up of {self.venv}')
                fcntl.flock(self.descriptor, fcntl.LOCK_EX)
            yield
            os.ftruncate(self.descriptor, 0)
        finally:
            os.close(self.descriptor)

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

    def run(self, *command):
        """Run ``command`` with its output in the log; SetupError with the end of the log when it fails.

        The child inherits the lock, so that it stays held until the child has ended, too, should this process be killed
        outright; the lock file names both for stop_orphan().
        """
        scrubbed = 'PYTHONPATH PYTHONHOME PIP_USER PIP_TARGET PIP_PREFIX PIP_NO_BINARY MMCV_WITH_OPS'.split()
        env = {name: value for name, value in os.environ.items() if name not in scrubbed}
        with open(self.log, 'ab') as log:
            log.write(f'$ {" ".join(command)}\n'.encode())
            log.flush()
            start = log.tell()
            process = subprocess.Popen(
                command, cwd=self.root, env=dict(env, TMPDIR=self.temporary), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                pass_fds=[self.descriptor], start_new_session=True,
            )  # fmt: skip
            os.ftruncate(self.descriptor, 0)
            os.pwrite(self.descriptor, f'{platform.node()} {os.getpid()} {process.pid}\n'.encode(), 0)
            try:
                while process.poll() is None:
                    try:
                        process.wait(timeout=60)
                    except subprocess.TimeoutExpired:
                        say('still at it')
            except BaseException:  # Ctrl-C, SIGTERM: take pip and what it started along
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise
        if process.returncode:
            with open(self.log, errors='replace') as file:
                file.seek(start)
                output = file.read()
            mend = [remedy + '\n' for pattern, remedy in REMEDIES.items() if re.search(pattern, output)][:1]
            tail = '\n'.join('  ' + line for line in output.splitlines()[-25:])
            raise SetupError(
                f'Failed ({process.returncode}): {" ".join(command)[:200]}\nThe end of {self.log}:\n{tail}\n{"".join(mend)}'
                'The next call starts anew.'
            )


def main():
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(number, lambda number, frame: sys.exit(128 + number))
    try:
        check_python()
        Setup(ROOT).main()
    except SetupError as error:
        sys.exit(f'Set-up stopped. {error}')
    except OSError as error:  # a full disk or a folder that cannot be written
        sys.exit(f'Set-up stopped, the next call starts anew. {error}')
    except KeyboardInterrupt:
        sys.exit('Set-up interrupted; the next call starts anew.')


if __name__ == '__main__':
    main()
