"""Detect or segment in a recording of an event camera as it runs: an answer every so many ms, as a table and a video.

event_demo.py CONFIG CHECKPOINT RECORDING [-o out.mp4] [--every 50]
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's mmspike, installed or not

from mmspike.cli import run
from mmspike.config.options import CONFIG
from mmspike.utils.errors import UserError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help=CONFIG)
    parser.add_argument('checkpoint', help='its weights')
    parser.add_argument('recording', help='file of events')
    parser.add_argument('-o', '--out', help='video to write (.mp4); default: none')
    parser.add_argument(
        '--every', type=float, metavar='MS', help="ms from one answer to the next (default: the network's window)"
    )
    parser.add_argument(
        '--idle', type=int, default=0, metavar='EVENTS', help='windows with fewer, behind filters, keep the answer (default 0)'
    )
    parser.add_argument('--score-thr', type=float, default=0.3, help='boxes with lower scores are not drawn (default 0.3)')
    parser.add_argument('--deployed', action='store_true', help='run the network as deployment folds it, which takes less time')
    parser.add_argument('--device', help='default: the accelerator if there is one, else cpu')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    import numpy as np

    from mmspike.apis import inference

    inferencer = inference(args.config, args.checkpoint, args.device, stream=True)
    if args.deployed:
        inferencer.fold()
    every = None if args.every is None else round(args.every * 1000)
    if args.out:
        answers = inferencer.video(args.recording, args.out, every, args.score_thr, args.idle)
    else:
        answers = list(inferencer.stream(args.recording, every, args.idle))
    if not answers:
        raise UserError(f'{args.recording} has no events')
    for answer in answers:
        kept = ' (idle)' if answer.idle else ''
        print(f'{answer.end / 1000:10.1f} ms{kept}  {_found(answer.sample, inferencer.classes, args.score_thr)}')
    cost, lag = (np.array([getattr(answer, name) for answer in answers[1:] or answers]) for name in ('seconds', 'lag'))
    step = (every or inferencer.window) / 1e6
    print(
        f'{len(answers)} answers, one every {1000 * step:g} ms: '
        f'{1000 * cost.mean():.1f} ms each (largest {1000 * cost.max():.1f}), '
        f'{step / cost.mean():.2f} x real time; behind the sensor {lag.mean() / 1000:.1f} ms (largest {lag.max() / 1000:.1f})'
    )
    if args.idle:
        print(f'{sum(answer.idle for answer in answers)} windows had fewer than {args.idle} events and were not looked at')
    if args.out:
        print(f'wrote {args.out}')


def _found(sample, classes: list[str], score_thr: float) -> str:
    """What an answer says, in a line."""
    if 'pred_sem_seg' in sample:
        labels, counts = sample.pred_sem_seg.data.unique(return_counts=True)
        total = counts.sum().item()
        return ', '.join(f'{classes[i]} {n / total:.1%}' for i, n in zip(labels.tolist(), counts.tolist(), strict=True))
    found = sample.pred_instances
    pairs = zip(found.labels.tolist(), found.scores.tolist(), strict=True)
    return ', '.join(f'{classes[i]} {score:.2f}' for i, score in pairs if score >= score_thr) or '-'


if __name__ == '__main__':
    run(parse_args, main)
