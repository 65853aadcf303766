"""Tools in processes of their own that start with the hosts imported, which is most of what a short command costs."""

import multiprocessing
import os
import runpy
import sys
from pathlib import Path

# A fresh interpreter imports the hosts, and not mmspike, once; every tool is a fork of it.
CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload(['mmdet.apis', 'mmseg.apis', 'mmpretrain.apis', 'matplotlib.backends.backend_agg'])


def _main(arguments: list[str], folder: Path, output: Path) -> None:
    os.chdir(folder)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(file, stream)
    sys.argv = arguments
    runpy.run_path(arguments[0], run_name='__main__')


def run_warm(arguments: list[str], folder: Path) -> str:
    """What ``python ARGUMENTS`` prints in ``folder``; it must succeed."""
    output = folder / 'printed.txt'
    process = CONTEXT.Process(target=_main, args=(arguments, folder, output))
    process.start()
    process.join()
    printed = output.read_text()
    assert process.exitcode == 0, f'{arguments} left with {process.exitcode}\n{printed}'
    return printed
