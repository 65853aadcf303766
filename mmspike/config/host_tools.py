"""Run the tools that mmdet, mmseg and mmpretrain bring along on our configs."""

import os.path as osp
import runpy
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmspike.config.data import data_faults_explained
from mmspike.utils.environment import HOST_PACKAGES
from mmspike.utils.errors import UserError
from mmspike.utils.optional import is_installed


def host_of(cfg: Config, scripts: dict[str, str], tool: str) -> str:
    """The host that the config's default_scope names.

    Raises:
        UserError: ``scripts`` has nothing of it, or it is not installed.
    """
    host = cfg.get('default_scope')
    if host not in scripts:
        raise UserError(f'{tool} works with configs of {", ".join(scripts)}; the default_scope of this one is {host!r}')
    if not is_installed(host):
        raise UserError(f'{tool} needs {host}, which is not installed: pip install {HOST_PACKAGES[host]}')
    return host


def host_script(host: str, path: str) -> str:
    """The file of a host's tool, from its ``path`` under the host's ``tools/``.

    Raises:
        UserError: It does not exist.
    """
    package: Any = find_spec(host)
    script = Path(package.origin).parent / '.mim' / 'tools' / path
    if not script.is_file():
        raise UserError(
            f"{host}'s own tool {script} does not exist: install {HOST_PACKAGES[host]} from its wheel, which has it"
        )
    return str(script)


def run_host_tool(cfg: Config, rest: list[str], scripts: dict[str, str], loaders: tuple[str, ...] = ()) -> None:
    """Run the tool of the config's host with ``cfg`` as its first argument, as if from the command line.

    Args:
        rest: The other arguments.
        scripts: Host -> path of the tool under the host's ``tools/``.
        loaders: Data loaders of the config that the tool reads: what is wrong with their data is explained.

    Raises:
        UserError: The host or its tool is missing.
    """
    host = host_of(cfg, scripts, osp.basename(sys.argv[0]))
    script = host_script(host, scripts[host])
    if cfg.get('visualizer') is not None:
        cfg.visualizer.setdefault('name', 'visualizer')  # a Runner gives it one, the tools do not
    argv = sys.argv
    with tempfile.TemporaryDirectory() as folder:
        config = osp.join(folder, 'config.py')
        cfg.dump(config)
        sys.argv = [argv[0], config, *rest]
        try:
            with data_faults_explained(cfg, loaders if not {'-h', '--help'} & set(rest) else (), ()):
                runpy.run_path(script, run_name='__main__')
        finally:
            sys.argv = argv
