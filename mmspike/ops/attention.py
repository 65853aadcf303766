"""Multi-scale deformable attention (arXiv:2010.04159) by bilinear sampling of PyTorch.

Names, arguments and their order are those of mmcv's compiled functions.

- ``value`` [B, keys, heads, C]: all scales of the pyramid, one after the other.
- ``value_spatial_shapes`` [L, 2]: height and width of each level.
- ``sampling_locations`` [B, queries, heads, L, points, 2]: x and y, from 0 to 1 of a level.
- ``attention_weights`` [B, queries, heads, L, points].
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .sampling import widened


def _attend(value: Tensor, shapes: list[list[int]], locations: Tensor, weights: Tensor) -> Tensor:
    batch, _, heads, channels = value.shape
    queries = locations.shape[1]
    grids = (2 * locations - 1).transpose(1, 2).flatten(0, 1)  # [B * heads, queries, L, points, 2]
    weights = weights.transpose(1, 2).flatten(0, 1)[:, None]  # [B * heads, 1, queries, L, points]
    out = value.new_zeros(batch * heads, channels, queries)
    for level, part in enumerate(value.split([height * width for height, width in shapes], 1)):
        image = part.permute(0, 2, 3, 1).reshape(batch * heads, channels, *shapes[level])
        sampled = F.grid_sample(image, grids[:, :, level], mode='bilinear', padding_mode='zeros', align_corners=False)
        out = out + (sampled * weights[:, :, :, level]).sum(-1)
    return out.view(batch, heads * channels, queries).transpose(1, 2).contiguous()


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """[B, queries, heads * C]: weighted sums of the values at the sampling locations, 0 outside of a level."""
    tensors = widened(value), value_spatial_shapes.tolist(), widened(sampling_locations), widened(attention_weights)
    return _attend(*tensors).to(value.dtype)


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Gradients, written into ``grad_value``, ``grad_sampling_loc`` and ``grad_attn_weight``."""
    leaves = [widened(x.detach()).requires_grad_() for x in (value, sampling_locations, attention_weights)]
    with torch.enable_grad():
        out = _attend(leaves[0], value_spatial_shapes.tolist(), *leaves[1:])
    grads = torch.autograd.grad(out, leaves, widened(grad_output))
    for target, grad in zip((grad_value, grad_sampling_loc, grad_attn_weight), grads, strict=True):
        target.copy_(grad)
