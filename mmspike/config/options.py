"""Options that several command lines share. Nothing heavy is imported before an option is used, so that ``--help`` is quick."""

import argparse
import re
import sys

from mmspike.config.literals import read_literal
from mmspike.utils.errors import UserError

CONFIG = 'config file, or the name of a config of a host, such as mmdet::retinanet/…_coco.py'


class DictAction(argparse.Action):
    """mmengine's action for ``KEY=VALUE``, imported when there is one; values with dicts in them are Python literals.

    ``KEY=[dict(type='LocalVisBackend'),dict(type='TensorboardVisBackend')]`` is a list of two dicts.
    """

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        from mmengine.config import DictAction as Action

        options = dict(getattr(namespace, self.dest, None) or {})
        for item in values:
            key, equals, value = item.partition('=')
            if not equals:
                parser.error(f'{option_string} {item}: expected KEY=VALUE')
            if re.search(r'\bdict\(|\{', value) is None:
                options[key] = Action._parse_iterable(value)
                continue
            try:
                options[key] = read_literal(value)
            except ValueError as error:
                parser.error(f'{option_string} {item}: {error}; strings in a dict have quotes')
        setattr(namespace, self.dest, options)


def positive(text: str) -> int:
    """The type of an option that takes 1, 2, …"""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'expected a positive integer, got {text!r}')
    return int(text)


def add_device_option(parser: argparse.ArgumentParser, tf32: bool = False) -> None:
    """``--device``, and ``--tf32`` with its default: tools that count or compare spikes leave it off."""
    parser.add_argument('--device', help='default: the accelerator if there is one, else cpu')
    add_tf32_option(parser, tf32)


def add_tf32_option(parser: argparse.ArgumentParser, on: bool) -> None:
    """The switch of :func:`mmspike.config.precision.set_tf32`, with ``on`` as its default."""
    parser.add_argument(
        '--tf32',
        action=argparse.BooleanOptionalAction,
        default=on,
        help='let float32 convolutions on NVIDIA cards since Ampere round to TF32: faster, and some spikes flip '
        f'(default: {"--tf32, as PyTorch does" if on else "--no-tf32"})',
    )


def add_amp_option(parser: argparse.ArgumentParser) -> None:
    """``--amp``, for :mod:`mmspike.config.precision`: None, 'default' (without a value), 'bf16' or 'fp16'.

    The command line is to be read by :func:`parse`.
    """
    parser.add_argument(
        '--amp',
        nargs='?',
        const='default',
        choices=('bf16', 'fp16', 'default'),
        metavar='bf16|fp16',
        help='mixed precision: bfloat16 or float16 (default, if --amp stands alone: float16 on a GPU, bfloat16 on the CPU)',
    )


def parse(parser: argparse.ArgumentParser, arguments: list[str] | None = None) -> argparse.Namespace:
    """The options of the command line. What follows ``--amp`` and names no type, such as CONFIG, is not a value of it."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    for i, argument in enumerate(given):
        if argument == '--amp' and not (i + 1 < len(given) and re.fullmatch(r'default|half|[a-z]+\d+', given[i + 1])):
            given[i] = '--amp=default'
    return parser.parse_args(given)


def add_engine_option(parser: argparse.ArgumentParser, what: str = 'what runs a checkpoint that is an ONNX file') -> None:
    parser.add_argument(
        '--engine',
        choices=['onnxruntime', 'openvino'],
        help=f'{what} (default: onnxruntime), with settings that keep the spikes',
    )


def engine_of(args: argparse.Namespace) -> str | None:
    """The engine of a checkpoint that is an ONNX file, else None.

    Raises:
        UserError: An engine for a checkpoint that is no ONNX file.
    """
    if str(args.checkpoint).lower().endswith('.onnx'):
        return args.engine or 'onnxruntime'
    if args.engine is not None:
        raise UserError(f'--engine {args.engine} runs ONNX files, {args.checkpoint} is none: write one with deploy.py --onnx')
    return None


def add_backbone_options(parser: argparse.ArgumentParser, required: bool = False) -> None:
    parser.add_argument(
        '-b',
        '--backbone',
        required=required,
        metavar='TYPE[:ARCH][,KEY=VALUE]...',
        help='put this spiking backbone into the config, such as mmspike.ESpikeFormer:m or "mmspike.MetaSpikeFormer:15m,T=2"',
    )
    parser.add_argument(
        '--spiking-heads', action='store_true', help='with --backbone, also replace FPN and heads by spiking ones'
    )


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """The options that change a config, for :func:`mmspike.config.launch.read_config`."""
    add_backbone_options(parser)
    parser.add_argument('--data-root', help='directory to which every data loader and evaluator of the config is moved')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='override settings of the config, as key=value with dots for nested keys; lists as key="[a,b]" or key=a,b, '
        'without white space',
    )


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """The options of what builds a Runner, for :func:`mmspike.config.launch.load_config`."""
    add_config_options(parser)
    parser.add_argument(
        '--work-dir',
        help='directory of logs and checkpoints (default: work_dirs/<name of the config>, with --backbone its name behind it)',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def parse_host_tool_args(description: str) -> argparse.Namespace:
    """The command line of a tool that a host brings along: our options, and in ``rest`` the arguments that go to the host's."""
    parser = argparse.ArgumentParser(
        description=description,
        usage='%(prog)s CONFIG [options of both] …',
        epilog="Further arguments go to the host's tool: CONFIG -h lists them.",
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument('config', help=CONFIG)
    add_config_options(parser)
    if len(sys.argv) < 2 or sys.argv[1].startswith('-'):
        parser.print_help()
        parser.exit(0 if sys.argv[1:] in (['-h'], ['--help']) else 2)
    args, rest = parser.parse_known_args()
    args.rest = rest
    return args
