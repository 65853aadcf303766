"""BorderAlign (arXiv:2007.11056): the largest of samples along each border of a box, in plain PyTorch.

Names, arguments and their order are those of mmcv's compiled functions. ``input`` is [B, 4 * C, H, W] with the channels of the
top, left, bottom and right borders one after the other, ``boxes`` [B, N, 4], the result [B, C, N, 4].
"""

import torch
from torch import Tensor

from .sampling import bilinear, widened


def _first_and_step(boxes: Tensor, pool_size: int) -> tuple[Tensor, Tensor]:
    """Start of the samples of each border, and the way from one to the next: x and y, [B, 4, N, 2]."""
    top_left, bottom_right = boxes[..., :2], boxes[..., 2:]
    across = (bottom_right - top_left) / pool_size * boxes.new_tensor([1, 0])
    down = (bottom_right - top_left) / pool_size * boxes.new_tensor([0, 1])
    return torch.stack([top_left, top_left, bottom_right, bottom_right], 1), torch.stack([across, down, -across, -down], 1)


def border_align_forward(input: Tensor, boxes: Tensor, output: Tensor, argmax_idx: Tensor, pool_size: int) -> None:
    """Written: ``output``, and ``argmax_idx``, the number of the largest of ``pool_size`` + 1 samples."""
    batch, channels, height, width = input.shape
    planes = widened(input).view(batch, 4, channels // 4, height * width)
    point, step = _first_and_step(boxes.to(planes.dtype), pool_size)
    largest, index = planes.new_empty(0), planes.new_empty(0)
    for number in range(pool_size + 1):
        value = planes.new_zeros(batch, 4, channels // 4, boxes.shape[1])
        for pixel, weight in zip(*bilinear(point[..., 1], point[..., 0], height, width), strict=True):
            value = value + planes.gather(-1, pixel[:, :, None].expand_as(value)) * weight[:, :, None]
        if number == 0:
            largest, index = value, torch.zeros_like(value, dtype=torch.long)
        else:
            index = torch.where(value > largest, number, index)
            largest = torch.where(value > largest, value, largest)
        point = point + step
    output.copy_(largest.permute(0, 2, 3, 1))
    argmax_idx.copy_(index.permute(0, 2, 3, 1))


def border_align_backward(grad_output: Tensor, boxes: Tensor, argmax_idx: Tensor, grad_input: Tensor, pool_size: int) -> None:
    """Gradient of the input, written into ``grad_input``."""
    batch, channels, height, width = grad_input.shape
    grad, index = widened(grad_output).permute(0, 3, 1, 2), argmax_idx.permute(0, 3, 1, 2)  # [B, 4, C, N]
    first, step = _first_and_step(boxes.to(grad.dtype), pool_size)
    point = first[:, :, None] + step[:, :, None] * index[..., None]
    found = grad.new_zeros(batch, 4, channels // 4, height * width)
    for pixel, weight in zip(*bilinear(point[..., 1], point[..., 0], height, width), strict=True):
        found.scatter_add_(-1, pixel, grad * weight)
    grad_input.copy_(found.view_as(grad_input))
