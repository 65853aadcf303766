"""Checkpoints of the authors' own code: their names, and the networks that they are of."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .official_max_former import convert_max_former, infer_max_former, is_max_former

# The authors' name of a block -> its place in a backbone of ours.
_PLACES = {
    r'downsample1_1': 'stem.0',
    r'ConvBlock1_1\.(\d+)': 'stem.{}',
    r'downsample1_2': 'stages.0.0',
    r'ConvBlock1_2\.(\d+)': 'stages.0.{}',
    r'downsample2': 'stages.1.0',
    r'ConvBlock2_1\.0': 'stages.1.1',
    r'ConvBlock2_2\.0': 'stages.1.2',
    r'downsample3': 'stages.2.0',
    r'block3\.(\d+)': 'stages.2.{}',
    r'downsample4': 'stages.3.0',
    r'block4\.(\d+)': 'stages.3.{}',
}
# The authors' name of a layer within its block -> ours.
_LAYERS = {
    'encode_conv': 'conv.conv',
    'encode_bn': 'conv.norm',
    'Conv.pwconv1': 'sepconv.pwconv1.conv',
    'Conv.bn1': 'sepconv.pwconv1.norm',
    'Conv.dwconv': 'sepconv.dwconv',
    'Conv.pwconv2': 'sepconv.pwconv2.conv',
    'Conv.bn2': 'sepconv.pwconv2.norm',
    'conv1': 'conv1.conv',
    'bn1': 'conv1.norm',
    'conv2': 'conv2.conv',
    'bn2': 'conv2.norm',
    'mlp.fc1_conv': 'mlp.fc1.conv',
    'mlp.fc1_bn': 'mlp.fc1.norm',
    'mlp.fc2_conv': 'mlp.fc2.conv',
    'mlp.fc2_bn': 'mlp.fc2.norm',
}
for _x in ('q', 'k', 'v', 'proj'):
    _LAYERS |= {
        f'attn.{_x}_conv.0.body.0': f'attn.{_x}_conv.rep.conv1',
        f'attn.{_x}_conv.0.body.1.bn': f'attn.{_x}_conv.rep.norm1',
        f'attn.{_x}_conv.0.body.2.0': f'attn.{_x}_conv.rep.dwconv',
        f'attn.{_x}_conv.0.body.2.1': f'attn.{_x}_conv.rep.conv2',
        f'attn.{_x}_conv.0.body.2.2': f'attn.{_x}_conv.rep.norm2',
        f'attn.{_x}_conv.1': f'attn.{_x}_conv.norm',
    }
# V3: a convolution and its norm are an nn.Sequential each
for _theirs, _ours in [
    *((f'{_c}.{_x}', f'sepconv.{_x}') for _c in ('Conv', 'conv') for _x in ('pwconv1', 'dwconv', 'pwconv2')),
    *((f'attn.{_x}_conv', f'attn.{_x}_conv') for _x in ('q', 'k', 'v', 'proj')),
]:
    _LAYERS |= {f'{_theirs}.0': f'{_ours}.conv', f'{_theirs}.1': f'{_ours}.norm'}
# V3, large models: pairs of 1x1 convolutions
for _theirs, _ours in [('rep_conv', 'rep_conv'), *((f'attn.{_x}_conv.0', f'attn.{_x}_conv') for _x in ('q', 'k', 'v', 'proj'))]:
    for _i in (1, 2):
        _LAYERS |= {f'{_theirs}.conv{_i}.0': f'{_ours}.conv{_i}.conv', f'{_theirs}.conv{_i}.1': f'{_ours}.conv{_i}.norm'}
for _i in (1, 2):
    _LAYERS |= {f'conv{_i}.0.0': f'conv{_i}.conv', f'conv{_i}.0.1': f'conv{_i}.norm'}
_LAYERS |= {f'layer_scale{_i}': f'layer_scale{_i}' for _i in (1, 2, 3)}
_HEADS = {
    'head': 'head.fc',
    'head_kd': 'head.fc_kd',
    # the masked autoencoder's decoder
    'norm': 'neck.norm',
    'decoder_embed': 'neck.embed',
    'decoder_norm': 'neck.ln',
    'decoder_pred': 'neck.pred',
}
_DECODER_LAYERS = {
    'norm1': 'ln1',
    'attn.qkv': 'attn.qkv',
    'attn.proj': 'attn.proj',
    'norm2': 'ln2',
    'mlp.fc1': 'ffn.layers.0.0',
    'mlp.fc2': 'ffn.layers.1',
}
_OURS = re.compile(r'(backbone\.(stem|stages)|head\.fc(_kd)?|neck\.(norm|embed|blocks|ln|pred))\.')


def official_key(key: str) -> str | None:
    """The name in a classifier or masked autoencoder of ours for a name of the authors', or None if it is none of theirs."""
    name, _, leaf = key.removeprefix('module.').removeprefix('backbone.').rpartition('.')
    if name in _HEADS:
        return f'{_HEADS[name]}.{leaf}'
    if (match := re.match(r'decoder_blocks\.(\d+)\.', name)) and (layer := _DECODER_LAYERS.get(name[match.end() :])):
        return f'neck.blocks.{match[1]}.{layer}.{leaf}'
    if leaf.startswith('layer_scale'):  # a parameter of the block itself, in the published segmentation code
        name, leaf = f'{name}.{leaf}', 'scale'
    for pattern, place in _PLACES.items():
        if (match := re.match(pattern + r'\.', name)) and (layer := _LAYERS.get(name[match.end() :])):
            # a stage's downsampling is its item 0, so that the authors' block i is item i + 1
            return f'backbone.{place.format(*(int(i) + 1 for i in match.groups()))}.{layer}.{leaf}'
    return None


def convert_official(state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """A state dict in the authors' names in those of a model of ours (``backbone.…``, ``head.…``, ``neck.…``).

    Values do not change; 1-D convolutions become 1x1 convolutions. Names that are ours already stay, so a second conversion
    changes nothing.

    Args:
        state_dict: Theirs, of a classifier, a masked autoencoder or a backbone, with or without the prefix ``module.`` or
            ``backbone.``.

    Returns:
        The converted state dict, and the keys it drops because they are neither the authors' nor ours.
    """
    if is_max_former(state_dict):
        return convert_max_former(state_dict)
    converted, dropped = {}, []
    for key, value in state_dict.items():
        new = official_key(key)
        if new is None and _OURS.match(key):
            new = key
        if new is None:
            dropped.append(key)
            continue
        if '.layer_scale' in new:
            value = value.flatten()
        elif value.dim() == 3:
            value = value.unsqueeze(-1)
        converted[new] = value
    return converted, dropped


def infer_backbone(state_dict: Mapping[str, Tensor]) -> dict | None:
    """Config of the backbone that a converted state dict was made from, as its shapes tell; None if it is none of ours."""
    if max_former := infer_max_former(state_dict):
        return max_former
    parts = ['stem', *(f'stages.{i}' for i in range(4))]
    if 'backbone.stages.3.0.conv.conv.weight' not in state_dict:
        parts.pop()  # the large models have three stages
    widths: list[Any] = [state_dict.get(f'backbone.{p}.0.conv.conv.weight') for p in parts[1:]]
    if any(w is None for w in widths):
        return None
    blocks = [
        {k.removeprefix(f'backbone.{p}.').split('.')[0] for k in state_dict if k.startswith(f'backbone.{p}.')} for p in parts
    ]
    arch: dict = dict(dims=tuple(len(w) for w in widths), depths=tuple(len(b) - 1 for b in blocks))
    scaled = any('.layer_scale' in k for k in state_dict)
    if 'backbone.stages.2.1.attn.q_conv.conv1.conv.weight' in state_dict:
        arch['rep_conv'] = 'backbone.stages.2.1.rep_conv.conv1.conv.weight' in state_dict
        return dict(type='ESpikeFormerLarge', arch=arch, layer_scale=1.0 if scaled else None)
    if len(parts) < 5:
        return None
    # only V3 has a norm after the depthwise convolution
    if 'backbone.stem.1.sepconv.dwconv.norm.weight' not in state_dict:
        return dict(type='MetaSpikeFormer', arch=arch)
    return dict(type='ESpikeFormer', arch=arch, layer_scale=1.0 if scaled else None)


def infer_decoder(state_dict: Mapping[str, Tensor]) -> dict | None:
    """Config of the masked autoencoder's decoder that a converted state dict has, as its shapes tell; None if it has none."""
    if 'neck.embed.weight' not in state_dict:
        return None
    dim, in_channels = state_dict['neck.embed.weight'].shape
    image_channels = state_dict['backbone.stem.0.conv.conv.weight'].shape[1]
    blocks = {k.split('.')[2] for k in state_dict if k.startswith('neck.blocks.')}
    return dict(
        type='SpikeMAEDecoder',
        in_channels=in_channels,
        patch_size=round((len(state_dict['neck.pred.weight']) / image_channels) ** 0.5),
        image_channels=image_channels,
        dim=dim,
        depth=len(blocks),
    )
