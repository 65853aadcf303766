"""Predict images, a folder, a glob or a video with a detector, segmentor or classifier: pictures and JSON into a folder."""

import argparse
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's mmspike, installed or not

from mmspike.cli import run
from mmspike.config.options import add_device_option, add_engine_option, engine_of
from mmspike.utils.errors import UserError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='NAME: a network that comes with weights, such as spikeyolo_nuclei. IMAGE: an image, a folder of images, '
        'a video, or a glob in quotes. CONFIG: a config file, or the name of one. CHECKPOINT: its file or URL, or an ONNX file '
        'that deploy.py --onnx wrote.',
    )
    parser.usage = f'{parser.prog} NAME IMAGE [options]\n       {parser.prog} IMAGE CONFIG CHECKPOINT [options]'
    parser.add_argument('words', nargs='+', metavar='NAME IMAGE, or IMAGE CONFIG CHECKPOINT', help='see below')
    add_engine_option(parser)
    parser.add_argument('--out-dir', default='outputs', help='folder of the results (default: outputs)')
    parser.add_argument('--batch-size', type=int, default=1, help='images of one size at once (default: 1)')
    add_device_option(parser, tf32=True)
    parser.add_argument('--score-thr', type=float, default=0.3, help='draw instances from this score on (default: 0.3)')
    parser.add_argument(
        '--spikes',
        nargs='?',
        const='all',
        metavar='STAGE',
        help='also draw firing rates, of every stage or of one, such as backbone.stages.2 or neck',
    )
    args = parser.parse_args()
    if len(args.words) == 2:
        args.config, args.image, args.checkpoint = *args.words, None
    elif len(args.words) == 3:
        args.image, args.config, args.checkpoint = args.words
    else:
        parser.error(f'expected NAME IMAGE or IMAGE CONFIG CHECKPOINT, got {" ".join(args.words)}')
    return args


def summary(result: dict, score_thr: float) -> str:
    """One line about a prediction; of instances those are counted that are drawn."""
    if result['task'] == 'classification':
        return f'{result.get("pred_class", result["pred_label"])} ({result["pred_score"]:.2f})'
    if result['task'] == 'segmentation':
        shares = zip(result['classes'], result['shares'], strict=True)
        return ', '.join(f'{name} {share:.1%}' for name, share in shares)
    found = Counter(name for name, score in zip(result['classes'], result['scores'], strict=True) if score >= score_thr)
    return ', '.join(f'{number} {name}' for name, number in found.items()) or 'nothing'


def main(args: argparse.Namespace) -> None:
    from mmspike.apis import Inferencer, find_config, list_weights
    from mmspike.apis.zoo import shipped_checkpoint
    from mmspike.config import precision
    from mmspike.config.config_faults import config_faults_explained
    from mmspike.config.names import read_file
    from mmspike.utils.files import check_folder

    precision.set_tf32(args.tf32)
    if args.checkpoint is None:
        if args.image in list_weights():  # the other way round, as with a checkpoint
            args.image, args.config = args.config, args.image
        args.checkpoint = shipped_checkpoint(args.config)
    engine = engine_of(args)
    check_folder(args.out_dir, '--out-dir')
    try:
        cfg = read_file(find_config(args.config))
        with config_faults_explained(cfg):
            inferencer = Inferencer(cfg, args.checkpoint, args.device, engine)
        results = inferencer(args.image, args.batch_size, args.out_dir, args.score_thr, args.spikes)
    except ImportError as error:
        raise UserError(str(error)) from error
    failed = [result for result in results if 'error' in result]
    for result in results:
        print(f'{result["name"]}: {"no prediction" if "error" in result else summary(result, args.score_thr)}')
    print(f'Written to {args.out_dir}')
    if failed:
        reasons = '\n  '.join(result['error'] for result in failed)
        raise UserError(f'{len(failed)} of {len(results)} pictures have no prediction:\n  {reasons}')


if __name__ == '__main__':
    run(parse_args, main)
