"""A web page on this machine: upload an image, choose a model, see what it finds, where it fires and what it costs."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's mmspike, installed or not

from mmspike.cli import run
from mmspike.config.options import add_device_option
from mmspike.utils.errors import UserError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--model',
        nargs=2,
        action='append',
        required=True,
        metavar=('CONFIG', 'CHECKPOINT'),
        help='config (file or name) and checkpoint of a model; repeat it for more to choose from',
    )
    add_device_option(parser, tf32=True)
    parser.add_argument('--port', type=int, default=7860, help='default: 7860')
    parser.add_argument(
        '--host',
        default='127.0.0.1',
        help='address to listen on (default: 127.0.0.1, this machine only). The page asks nobody for a password',
    )
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from mmspike.apis import find_config
    from mmspike.apis.webui import build_page, model_names
    from mmspike.config import precision

    precision.set_tf32(args.tf32)
    try:
        for config, checkpoint in args.model:
            find_config(config)
            if not Path(checkpoint).is_file():
                raise UserError(f'checkpoint {checkpoint} does not exist')
        page = build_page(model_names([tuple(pair) for pair in args.model]), args.device)
        page.launch(
            server_name=args.host,
            server_port=args.port,
            share=False,
            show_error=True,
            ssr_mode=False,
            footer_links=[],
            quiet=True,
            prevent_thread_lock=True,
        )
    except (ImportError, OSError) as error:  # gradio raises OSError for a port that is taken
        raise UserError(str(error)) from error
    print(f'http://{args.host}:{args.port} (Ctrl+C ends it)', flush=True)
    page.block_thread()


if __name__ == '__main__':
    run(parse_args, main)
