"""Run the tools that mmdet, mmseg and mmpretrain bring along on our configs."""

import argparse
import os.path as osp
import runpy
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction

from mmspike.config import launch
from mmspike.config.data import data_faults_explained
from mmspike.utils.optional import PACKAGES, is_installed


def parse_tool_args(description: str) -> tuple[Config, list[str]]:
    """The config that the command line names first, with our options applied, and the arguments that are left for the host."""
    parser = argparse.ArgumentParser(
        description=description,
        usage='%(prog)s CONFIG [options of both] …',
        epilog="Further arguments go to the host's tool: CONFIG -h lists them.",
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument('config', help='config file, or the name of a config of a host, such as mmdet::retinanet/…_coco.py')
    launch.add_backbone_options(parser)
    parser.add_argument('--data-root', help='directory to which every data loader and evaluator of the config is moved')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='override settings of the config, as key=value')
    parser.set_defaults(work_dir=None, launcher='none', local_rank=0)
    if len(sys.argv) < 2 or sys.argv[1].startswith('-'):
        parser.print_help()
        raise SystemExit(0 if sys.argv[1:] in (['-h'], ['--help']) else 2)
    args, rest = parser.parse_known_args()
    return launch.load_config(args), rest


def host_of(cfg: Config, scripts: dict[str, str], tool: str) -> str:
    """The host that the config's default_scope names.

    Raises:
        SystemExit: ``scripts`` has nothing of it, or it is not installed.
    """
    host = cfg.get('default_scope')
    if host not in scripts:
        raise SystemExit(f'{tool} works with configs of {", ".join(scripts)}; the default_scope of this one is {host!r}')
    if not is_installed(host):
        raise SystemExit(f'{tool} needs {host}, which is not installed: pip install {PACKAGES[host]}')
    return host


def host_script(host: str, path: str) -> str:
    """The file of a host's tool, from its ``path`` under the host's ``tools/``.

    Raises:
        SystemExit: It does not exist.
    """
    package: Any = find_spec(host)
    script = Path(package.origin).parent / '.mim' / 'tools' / path
    if not script.is_file():
        raise SystemExit(f"{host}'s own tool {script} does not exist: install {PACKAGES[host]} from its wheel, which has it")
    return str(script)


def run_host_tool(cfg: Config, rest: list[str], scripts: dict[str, str], loaders: tuple[str, ...] = ()) -> None:
    """Run the tool of the config's host with ``cfg`` as its first argument, as if from the command line.

    Args:
        rest: The other arguments.
        scripts: Host -> path of the tool under the host's ``tools/``.
        loaders: Data loaders of the config that the tool reads: what is wrong with their data is explained.

    Raises:
        SystemExit: The host or its tool is missing, or the tool ends with it.
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
