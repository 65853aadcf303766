"""Check that our networks are the authors' functions, on stored outputs and gradients of their own code.

Runs every case (NAME.json and NAME.npz) of a folder: builds the network from the case's ``config``, fills it with the
weights that follow from the authors' names, converted by the code that converts their checkpoints, and compares logits,
features, loss and gradients in float64 and logits in float32. Of the masked autoencoder it compares mask, latent tokens,
reconstruction and loss, and gradients where a case has them. Exit code 1 when one is off.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's mmspike, installed or not

from mmspike.cli import run
from mmspike.utils.errors import UserError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path, help='folder of cases, each NAME.json and NAME.npz')
    return parser.parse_args()


def main(args: argparse.Namespace) -> int:
    import numpy as np

    from mmspike.analysis.reference import LIMITS, MAE_LIMITS, build_network, compare

    cases = sorted(args.folder.glob('*.json'))
    if not cases:
        raise UserError(f'{args.folder}: found no case (NAME.json with NAME.npz)')
    failed = compared = 0
    for path in cases:
        try:
            case = json.loads(path.read_text())
            model = build_network(case['config'])
            if model is None:
                print(f'{path.stem}: unsupported, there is no {case["config"]["family"]} here')
                continue
            with np.load(path.with_suffix('.npz')) as arrays:
                diffs = compare(case, dict(arrays), model)
        except (OSError, ValueError, KeyError) as error:
            print(f'{path.stem}: off, {type(error).__name__}: {error}')
            failed += 1
            continue
        compared += 1
        # written so that NaN is off, too
        limits = MAE_LIMITS if case['config']['family'] == 'SpikeMAE' else LIMITS
        limits = {k: limit for k, limit in limits.items() if k in diffs}
        off = [k for k, limit in limits.items() if not diffs[k] <= limit]
        failed += bool(off)
        text = '  '.join(f'{k} {diffs[k]:.1e}' for k in limits)
        print(f'{path.stem}: {"off in " + ", ".join(off) if off else "same"}  {text}', flush=True)
    if not compared and not failed:
        raise UserError(f'{args.folder}: no case is of a network that is supported here')
    return 1 if failed else 0


if __name__ == '__main__':
    run(parse_args, main)
