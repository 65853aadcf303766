"""Helpers of several operators: reduced precision widened, bilinear samples where mmcv takes them."""

import torch
from torch import Tensor


def widened(x: Tensor) -> Tensor:
    """float16 and bfloat16 as float32; other types as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def bilinear(y: Tensor, x: Tensor, height: int, width: int) -> tuple[list[Tensor], list[Tensor]]:
    """The four pixels around points (y, x) and their weights; both have the shape of ``y`` and ``x``, broadcast.

    Pixels are numbered row by row. Points up to one pixel outside of the image are moved to its edge, others weigh 0.
    """
    inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)

    def neighbours(z: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
        z = z.clamp(min=0)
        low = z.long().clamp(max=size - 1)
        return low, (low + 1).clamp(max=size - 1), torch.where(low == size - 1, torch.zeros_like(z), z - low)

    top, bottom, down = neighbours(y, height)
    left, right, across = neighbours(x, width)
    up, back = (1 - down) * inside, 1 - across
    down = down * inside
    pixels = [top * width + left, top * width + right, bottom * width + left, bottom * width + right]
    return pixels, [up * back, up * across, down * back, down * across]
