"""Make a checkpoint ready to be published: weights and what is needed to use them, nothing else, the hash in its name.

The file holds tensors and plain values only, so that ``torch.load(..., weights_only=True)`` reads it. Kept: the weights and, of
``meta``, the config, classes and palette, epoch, iteration, seed and versions; the inferencers of the hosts need the first two.
Dropped: optimizer, schedulers, logs, and of the config what names places on this machine: the lines work_dir and load_from, and
the folder of an absolute data_root, which becomes data/NAME/.
The name ends in the first 8 digits of the file's SHA-256, as ``torch.hub`` and the hosts expect: OUT-xxxxxxxx.pth. The same
checkpoint always gives the same file.

``--half`` halves the file: weights of more than one dimension are float16. Norms and biases stay float32, so that the running
variance of a norm neither vanishes nor overflows. A network that loads the file computes in float32 as ever; test it, since
some spikes flip.

Of a checkpoint with averaged weights (EMAHook) the average is published, which is what was validated; ``--no-ema`` takes the
weights that were trained.
"""

import argparse
import hashlib
import io
import os
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's mmspike, installed or not

from mmspike.cli import run
from mmspike.utils.errors import UserError

META = ('cfg', 'dataset_meta', 'epoch', 'iter', 'seed', 'experiment_name', 'time', 'mmengine_version')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('in_file', help='checkpoint')
    parser.add_argument('out_file', type=Path, help='file to write, without the hash')
    parser.add_argument('--half', action='store_true', help='weights of more than one dimension in float16')
    parser.add_argument('--no-ema', action='store_true', help='the trained weights instead of their average')
    return parser.parse_args()


def plain(value, name: str):
    """``value`` with arrays as lists, if it is plain data.

    Raises:
        UserError: It is something else.
    """
    import numpy as np

    if isinstance(value, (np.ndarray, np.generic)):  # first: np.float64 is a float, too
        return value.tolist()
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, dict):
        return {str(k): plain(v, f'{name}.{k}') for k, v in value.items()}
    if isinstance(value, set):
        value = sorted(value, key=repr)  # a set has another order in every process, and the file another hash
    if isinstance(value, (list, tuple)):
        return type(value)(plain(v, name) for v in value)
    raise UserError(f'{name} is a {type(value).__name__}, expected plain data: take it out of the checkpoint first')


def published(checkpoint: dict, no_ema: bool = False, half: bool = False) -> dict:
    """The content to publish, of a checkpoint of mmengine or a bare state dict.

    Raises:
        UserError: The weights hold other things than tensors, or ``no_ema`` without an average, or numbers that float16 lacks.
    """
    import torch

    import mmspike

    weights = dict(checkpoint.get('state_dict', checkpoint))
    ema = checkpoint.get('ema_state_dict')
    if no_ema and ema is None:
        raise UserError('--no-ema: the checkpoint has no averaged weights, so there is nothing to choose')
    if no_ema:  # mmengine saves the average as state_dict, and here what it was taken from
        weights |= {key.removeprefix('module.'): value for key, value in ema.items() if key.startswith('module.')}
    others = [key for key, value in weights.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise UserError(f'expected tensors in the state dict, got {type(weights[others[0]]).__name__} in {others[0]}')
    given = checkpoint.get('meta', {}) if 'state_dict' in checkpoint else {}
    meta = {key: plain(given[key], f'meta.{key}') for key in META if key in given}
    if isinstance(meta.get('cfg'), str):
        meta['cfg'] = _without_places(meta['cfg'])
    meta['mmspike_version'] = mmspike.__version__
    # copies: a view would take the whole tensor that it looks at along
    weights = {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in weights.items()}
    return dict(meta=meta, state_dict=_halved(weights) if half else weights)


def _without_places(cfg: str) -> str:
    """The text of a config without the folders of the machine that trained."""
    cfg = re.sub(r'^(work_dir|load_from) = .*\n', '', cfg, flags=re.MULTILINE)
    for root in re.findall(r'data_root\s*=\s*[\'"](/[^\'"]+)', cfg):
        cfg = cfg.replace(root, f'data/{Path(root).name}{"/" if root.endswith("/") else ""}')
    return cfg


def _halved(weights: dict) -> dict:
    import torch

    halved = {k: v.half() if v.is_floating_point() and v.dim() > 1 else v for k, v in weights.items()}
    if overflown := [k for k, v in halved.items() if v.dtype == torch.float16 and not torch.isfinite(v).all()]:
        raise UserError(f'--half: {overflown[0]} has numbers that are not finite in float16 (the largest is 65504)')
    return halved


def write(content: dict, out_file: Path) -> Path:
    """Write ``content`` under a name with its hash, whole or not at all."""
    import torch

    buffer = io.BytesIO()  # not a file: torch would write its name into it, and the hash would depend on that
    torch.save(content, buffer)
    data = buffer.getvalue()
    torch.load(io.BytesIO(data), weights_only=True)
    name = out_file.name.removesuffix('.pth')
    path = out_file.with_name(f'{name}-{hashlib.sha256(data).hexdigest()[:8]}.pth')
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'{path.name}.part')
    part.write_bytes(data)
    os.replace(part, path)
    return path


def main(args: argparse.Namespace) -> None:
    from mmspike.utils.checkpoint import read_checkpoint

    try:
        checkpoint = read_checkpoint(args.in_file)
    except (FileNotFoundError, RuntimeError) as error:
        raise UserError(str(error)) from error
    content = published(checkpoint, args.no_ema, args.half)
    if 'state_dict' in checkpoint:
        dropped = sorted(set(checkpoint) - set(content))
        print(f'Dropped: {", ".join(dropped) or "nothing"}')
    if 'ema_state_dict' in checkpoint:
        print('Weights: as trained' if args.no_ema else 'Weights: their average (EMA)')
    path = write(content, args.out_file)
    print(f'{path} ({path.stat().st_size / 2**20:.1f} MB)')


if __name__ == '__main__':
    run(parse_args, main)
