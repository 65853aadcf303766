"""Convert a checkpoint of the authors' code to one that mmspike's configs load.

The result holds tensors only and loads with ``torch.load(..., weights_only=True)``. A classifier loads it as it is, and so does
SpikeMAE one of the masked autoencoder; another model's backbone loads its part of either by
``init_cfg=dict(type='Pretrained', checkpoint=DST, prefix='backbone.')``.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's mmspike, installed or not

from mmspike.cli import run
from mmspike.utils.errors import UserError


def load_checkpoint(path: Path) -> dict:
    """The state dict of a checkpoint file, which may hold it bare or under 'model', 'state_dict' or 'module'."""
    import torch

    from mmspike.utils.checkpoint import read_checkpoint

    with torch.serialization.safe_globals([argparse.Namespace]):  # the authors' checkpoints carry their command line
        checkpoint = read_checkpoint(str(path))
    for key in ('model', 'state_dict', 'module'):
        if isinstance(checkpoint.get(key), dict):
            checkpoint = checkpoint[key]
            break
    if not any(isinstance(v, torch.Tensor) for v in checkpoint.values()):
        raise UserError(f'{path}: found no state dict (looked at the top and under model, state_dict, module)')
    return {k: v for k, v in checkpoint.items() if isinstance(v, torch.Tensor)}


def expected_model(state_dict: dict, arch: str | None):
    """Backbone and, if there are, classifier and decoder, on the meta device, which the converted ``state_dict`` should fit."""
    import torch
    from torch import nn

    from mmspike.models.checkpoints import nearest_preset
    from mmspike.models.official import infer_backbone, infer_decoder
    from mmspike.registry import MODELS

    inferred = infer_backbone(state_dict)
    if inferred is None:
        raise UserError(f'the checkpoint is of no network known here; nearest preset: {nearest_preset(state_dict)}')
    if arch is not None:
        inferred['arch'] = arch
    with torch.device('meta'):
        try:
            backbone = MODELS.get(inferred.pop('type'))(**inferred)
        except ValueError as error:
            if arch is None:
                raise
            raise UserError(f'--arch {arch}: {error}') from None
        model = nn.ModuleDict(dict(backbone=backbone))
        if 'head.fc.weight' in state_dict:
            num_classes, channels = state_dict['head.fc.weight'].shape
            model['head'] = MODELS.get('SpikingLinearClsHead')(
                num_classes, channels, distilled='head.fc_kd.weight' in state_dict
            )
        if decoder := infer_decoder(state_dict):
            model['neck'] = MODELS.build(decoder)
    return model


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('src', type=Path, help='checkpoint of the authors')
    parser.add_argument('dst', type=Path, help='where to write the converted one')
    parser.add_argument('--arch', help='preset it must fit, for example metaspikeformer-15m; default: as its shapes say')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    import torch

    from mmspike.models.checkpoints import explain_mismatch, nearest_preset
    from mmspike.models.official import convert_official

    converted, dropped = convert_official(load_checkpoint(args.src))
    for key in dropped:
        print(f'dropped: {key}')
    model = expected_model(converted, args.arch)
    problems = explain_mismatch(model, converted)
    if problems:
        raise UserError(f'{args.src} does not fit:\n{problems}')
    args.dst.parent.mkdir(parents=True, exist_ok=True)
    temporary = args.dst.with_name(args.dst.name + '.tmp')
    torch.save(dict(state_dict=converted), temporary)
    os.replace(temporary, args.dst)
    name = type(model['backbone']).__name__
    print(f'{args.dst}: {len(converted)} entries of {name}, nearest preset {nearest_preset(converted)}; {len(dropped)} dropped')


if __name__ == '__main__':
    run(parse_args, main)
