"""Checkpoints of the authors of Max-Former and MS-QKFormer: their names in those of our networks.

Known of their names are the parts, ``patch_embed1`` to 3, ``stage1`` to 3 and ``head``, and those of convolutions in blocks.
Within a ``patch_embed`` no two convolutions have the same shape, which tells them apart; a norm is the one beside its
convolution.
"""

import re
from collections.abc import Mapping

from torch import Tensor

_IN_BLOCK = re.compile(r'stage(\d)\.(\d+)\.(attn|mixer|mlp)\.(\w+)$')
_LAYERS = {
    'conv': 'mixer.conv',
    **{f'{name}_conv': f'mixer.{name}_conv' for name in ('q', 'k', 'v', 'proj')},
    **{f'fc{i}_conv': f'mlp.fc{i}' for i in (1, 2)},
}
_NORM = ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')


def is_max_former(state_dict: Mapping[str, Tensor]) -> bool:
    """True for a state dict in the names of those authors."""
    return any(re.match(r'(module\.)?patch_embed1\.', key) for key in state_dict)


def convert_max_former(state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """As :func:`mmspike.models.official.convert_official`, for Max-Former and MS-QKFormer."""
    theirs = {key.removeprefix('module.'): value for key, value in state_dict.items()}
    norms = [key.removesuffix('.running_mean') for key in theirs if key.endswith('.running_mean')]
    # the first convolution of MS-QKFormer keeps the size and is followed by a pool, as our chain of both says
    pooled = not any(re.match(r'stage1\.0\.mixer\.conv\.', key) for key in theirs)
    converted, used = {}, set()
    for key, weight in theirs.items():
        name = key.removesuffix('.weight')
        place = _place(name, weight, pooled) if key.endswith('.weight') and weight.dim() > 1 else None
        if place is None:
            continue
        if place == 'head.fc':
            pairs = {f'{name}.{leaf}': f'{place}.{leaf}' for leaf in ('weight', 'bias')}
        else:
            pairs = {f'{name}.{leaf}': f'{place}.conv.{leaf}' for leaf in ('weight', 'bias')}
            norm = _norm_of(name, norms)
            pairs |= {f'{norm}.{leaf}': f'{place}.norm.{leaf}' for leaf in _NORM if norm}
        for old, new in pairs.items():
            if old in theirs:
                value = theirs[old]
                converted[new] = value.unsqueeze(-1) if value.dim() == 3 else value
                used.add(old)
    return converted, [key for key in theirs if key not in used]


def _place(name: str, weight: Tensor, pooled: bool) -> str | None:
    """The convolution with norm of ours for their convolution of this name, or 'head.fc'; None for none."""
    if name == 'head':
        return 'head.fc'
    if match := _IN_BLOCK.match(name):
        layer = _LAYERS.get(match[4])
        return layer and f'backbone.stages.{int(match[1]) - 1}.{int(match[2]) + 1}.{layer}'
    if (match := re.match(r'patch_embed(\d)\.', name)) and weight.dim() == 4:
        out, into, size = weight.shape[:3]
        if match[1] == '1' and size == 3 and into < out / 2:
            return 'backbone.stem.0.conv' if pooled else 'backbone.stem.0'
        layer = 'shortcut_conv' if size == 1 else 'conv2' if into == out else 'conv1'
        return f'backbone.stages.{int(match[1]) - 1}.0.{layer}'
    return None


def _norm_of(conv: str, norms: list[str]) -> str | None:
    """The norm beside a convolution: the only one of its module, else the one whose name says bn where it says conv."""
    parent, _, name = conv.rpartition('.')
    beside = [norm for norm in norms if norm.rpartition('.')[0] == parent]
    named = f'{parent}.{name.replace("conv", "bn")}'
    return beside[0] if len(beside) == 1 else named if named in beside else None


def infer_max_former(state_dict: Mapping[str, Tensor]) -> dict | None:
    """Config of the backbone of a converted state dict, as its shapes tell; None if it is of another network.

    Heads have 64 channels, as in every published model: no shape tells their number.
    """
    last = [state_dict.get(f'backbone.stages.{i}.0.conv2.conv.weight') for i in range(3)]
    if 'backbone.stages.0.0.shortcut_conv.conv.weight' not in state_dict or any(weight is None for weight in last):
        return None
    dims = tuple(len(weight) for weight in last if weight is not None)
    depths = [len({k.split('.')[3] for k in state_dict if k.startswith(f'backbone.stages.{i}.')}) - 1 for i in range(3)]
    family = 'MaxFormer' if 'backbone.stages.0.1.mixer.conv.conv.weight' in state_dict else 'MSQKFormer'
    return dict(type=family, arch=dict(dims=dims, depths=tuple(depths), num_heads=dims[-1] // 64))
