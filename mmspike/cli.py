"""The command line: ``mmspike COMMAND …`` runs the tool of that name, and every tool runs by :func:`run`.

This module needs the standard library only, so that help and the report on the environment work in any environment.
"""

import ast
import gc
import sys
import traceback
from argparse import Namespace
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType

from mmspike.utils.carried import carried
from mmspike.utils.collect_env import check_environment
from mmspike.utils.errors import UserError

# tools whose command has another name than their file
SHORT = {
    'image_demo.py': 'infer',
    'analysis_tools/benchmark.py': 'speed',
    'analysis_tools/get_energy.py': 'energy',
    'analysis_tools/get_flops.py': 'flops',
}
INTERNAL = ('dev', 'benchmarks')  # folders of scripts that serve the repository
ENVIRONMENT = 'env'  # the one command without a file in tools/


def run(parse_args: Callable[[], Namespace], main: Callable[[Namespace], int | None], any_environment: bool = False) -> None:
    """Run a tool: options, environment, work, exit.

    The options come first, so that ``--help`` is quick; the environment is checked before ``main`` imports what needs it. A
    UserError is printed without a traceback, and the exit status is 1. Whatever happens, the process group is left.

    Args:
        parse_args: Reads the options from ``sys.argv``.
        main: Does the work. What it returns is the exit status, None for 0.
        any_environment: The tool works without torch and the hosts, which are not checked then.
    """
    if '' not in sys.path:
        sys.path.append('')  # modules of one's own, which a config's custom_imports names, are found in the current folder
    status: int | str | None
    try:
        args = parse_args()
        if not any_environment:
            check_environment()
        status = main(args)
    except UserError as error:
        status = str(error)
    finally:
        _leave_process_group()
    if status:
        sys.exit(status)


def _leave_process_group() -> None:
    """End the communication of the processes, where there is one.

    The threads of gloo end with the last reference to the process group, and a model in DistributedDataParallel holds one. If
    they outlive main, they may ask a Python that is shutting down for its lock: "terminate called without an active exception".
    """
    distributed = sys.modules.get('torch.distributed')
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return
    error = sys.exception()  # its traceback holds the runner, and with it the model
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
    gc.collect()  # a runner and its hooks hold each other
    distributed.destroy_process_group()


def tools() -> dict[str, Path]:
    """Every tool that is a command: name -> file, in the order in which help lists them."""
    root = carried('tools')
    files = sorted(root.rglob('*.py'), key=lambda file: (len(file.relative_to(root).parts), str(file)))
    return {
        SHORT.get(str(file.relative_to(root)), file.stem.replace('_', '-')): file
        for file in files
        if file.relative_to(root).parts[0] not in INTERNAL
    }


def _help(commands: dict[str, Path]) -> str:
    lines = ['usage: mmspike COMMAND …', '', '`mmspike COMMAND --help` lists the options of a command.', '']
    width = max(map(len, commands)) + 2
    for name, file in [*commands.items(), (ENVIRONMENT, Path(check_environment.__code__.co_filename))]:
        docstring = ast.get_docstring(ast.parse(file.read_text(encoding='utf-8'))) or ''
        lines.append(f'  {name:<{width}}{docstring.partition(chr(10))[0].replace("``", "`")}')
    return '\n'.join(lines)


def _run_file(file: Path, command: str, arguments: list[str]) -> None:
    """Run a file as ``python FILE ARGUMENTS`` does, but for the name in its messages."""
    module = ModuleType('__main__')
    module.__file__ = str(file)
    sys.modules['__main__'] = module
    sys.argv = [f'mmspike {command}', *arguments]
    exec(compile(file.read_bytes(), str(file), 'exec'), module.__dict__)


def main() -> None:
    """Run the command ``mmspike``, or ``python -m mmspike``."""
    commands = tools()
    given, *arguments = sys.argv[1:] or ['--help']
    if given in ('-h', '--help', 'help'):
        print(_help(commands))
        return
    if given == '--version':
        from mmspike import __version__

        print(__version__)
        return
    command = given.replace('_', '-')
    by_file = {file.stem.replace('_', '-'): name for name, file in reversed(commands.items())}
    command = command if command in commands else by_file.get(command, command)
    if command == ENVIRONMENT:
        from mmspike.utils import collect_env

        sys.exit(collect_env.main())
    if command not in commands:
        near = get_close_matches(command, [*commands, *by_file, ENVIRONMENT], 1)
        hint = f'did you mean {near[0]}? ' if near else ''
        sys.exit(f'mmspike has no command {given!r}: {hint}`mmspike --help` lists all')
    _run_file(commands[command], command, arguments)
