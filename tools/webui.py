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
        nargs='+',
        action='append',
        default=[],
        metavar=('CONFIG', 'CHECKPOINT'),
        help='config (file or name) and checkpoint (file or URL) of a model, or the name of one that comes with weights; '
        'repeat it for more to choose from (default: all that come with weights)',
    )
    add_device_option(parser, tf32=True)
    parser.add_argument('--port', type=int, default=7860, help='default: 7860')
    parser.add_argument(
        '--host',
        default='127.0.0.1',
        help='address to listen on (default: 127.0.0.1, this machine only). The page asks nobody for a password',
    )
    args = parser.parse_args()
    if wrong := [' '.join(words) for words in args.model if len(words) > 2]:
        parser.error(f'--model {wrong[0]}: expected CONFIG CHECKPOINT or NAME')
    return args


def main(args: argparse.Namespace) -> None:
    from mmspike.apis import find_config, list_weights
    from mmspike.apis.webui import build_page, model_names
    from mmspike.apis.zoo import shipped_checkpoint
    from mmspike.config import precision
    from mmspike.utils.weights import SCHEME, find_weights

    precision.set_tf32(args.tf32)
    try:
        pairs: list[tuple[str, str | None]] = []
        for config, *checkpoint in args.model or [[name] for name in list_weights()]:
            find_config(config)
            if not checkpoint:
                shipped_checkpoint(config)
            elif checkpoint[0].startswith(SCHEME):
                find_weights(checkpoint[0])
            elif '://' not in checkpoint[0] and not Path(checkpoint[0]).is_file():
                raise UserError(f'checkpoint {checkpoint[0]} does not exist')
            pairs.append((config, checkpoint[0] if checkpoint else None))
        page = build_page(model_names(pairs), args.device)
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
