"""Operators that weigh or pick pixels of a window: CARAFE, masks of PSANet, masked convolution. Plain PyTorch.

Names, arguments and their order are those of mmcv's compiled functions, which write into tensors that come as arguments.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from .sampling import widened


def _windows(features: Tensor, groups: int, kernel_size: int) -> Iterator[Tensor]:
    """Features as each place of the window sees them: views [B, groups, C / groups, H, 1, W, 1] of padded ones."""
    batch, channels, height, width = features.shape
    padded = F.pad(features, [kernel_size // 2] * 4).view(batch, groups, channels // groups, height + kernel_size - 1, -1)
    for line in range(kernel_size):
        for column in range(kernel_size):
            yield padded[..., line : line + height, column : column + width].unsqueeze(-2).unsqueeze(-1)


def _by_pixel(x: Tensor, groups: int, scale: int) -> Tensor:
    """[B, groups * N, scale * H, scale * W] -> [B, groups, N, H, scale, W, scale]."""
    batch, channels, height, width = x.shape
    return x.view(batch, groups, channels // groups, height // scale, scale, width // scale, scale)


def carafe_forward(
    features: Tensor,
    masks: Tensor,
    rfeatures: Tensor,
    routput: Tensor,
    rmasks: Tensor,
    output: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """CARAFE (arXiv:1905.02188): each pixel of a larger image is a weighted sum of a window of ``features``.

    Args:
        features: [B, C, H, W].
        masks: Weights [B, group_size * kernel_size ** 2, scale_factor * H, scale_factor * W].
        rfeatures: Written: the features, from which mmcv's backward starts.
        routput: Scratch memory of the compiled operator, unused.
        rmasks: The same.
        output: Written: [B, C, scale_factor * H, scale_factor * W].
        kernel_size: Side of the window.
        group_size: Groups of channels with weights of their own.
        scale_factor: How much larger the result is.
    """
    rfeatures.copy_(features)
    carafe_naive_forward(features, masks, output, kernel_size, group_size, scale_factor)


def carafe_backward(
    top_grad: Tensor,
    rfeatures: Tensor,
    masks: Tensor,
    rtop_grad: Tensor,
    rbottom_grad_hs: Tensor,
    rbottom_grad: Tensor,
    rmask_grad: Tensor,
    bottom_grad: Tensor,
    mask_grad: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Gradients of CARAFE, written into ``bottom_grad`` and ``mask_grad``; the other tensors of gradients are unused."""
    carafe_naive_backward(top_grad, rfeatures, masks, bottom_grad, mask_grad, kernel_size, group_size, scale_factor)


def carafe_naive_forward(
    features: Tensor, masks: Tensor, output: Tensor, kernel_size: int, group_size: int, scale_factor: int
) -> None:
    """CARAFE without scratch memory; see :func:`carafe_forward`."""
    weights = _by_pixel(widened(masks), group_size, scale_factor)
    out = _by_pixel(torch.zeros_like(widened(output)), group_size, scale_factor)
    for place, seen in enumerate(_windows(widened(features), group_size, kernel_size)):
        out.addcmul_(seen, weights[:, :, place, None])
    output.copy_(out.view_as(output))


def carafe_naive_backward(
    top_grad: Tensor,
    features: Tensor,
    masks: Tensor,
    bottom_grad: Tensor,
    mask_grad: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Gradients of CARAFE, written into ``bottom_grad`` and ``mask_grad``."""
    batch, channels, height, width = features.shape
    weights = _by_pixel(widened(masks), group_size, scale_factor)
    grad = _by_pixel(widened(top_grad), group_size, scale_factor)
    by_mask = torch.zeros_like(weights)
    margin = kernel_size - 1
    by_features = grad.new_zeros(batch, group_size, channels // group_size, height + margin, width + margin)
    for place, seen in enumerate(_windows(widened(features), group_size, kernel_size)):
        line, column = divmod(place, kernel_size)
        by_mask[:, :, place] = (grad * seen).sum(2)
        moved = by_features[..., line : line + height, column : column + width]
        moved += (grad * weights[:, :, place, None]).sum((-3, -1))
    half = margin // 2
    bottom_grad.copy_(by_features[..., half : half + height, half : half + width].reshape_as(bottom_grad))
    mask_grad.copy_(by_mask.view_as(mask_grad))


def _psa_places(height: int, width: int, mask: tuple[int, int], half: tuple[int, int], device: torch.device) -> Tensor:
    """The pixel that each place of the mask means at each pixel [places, H * W]; H * W outside of the image."""

    def lines(size: int, mask_size: int, middle: int) -> tuple[Tensor, Tensor]:
        found = torch.arange(mask_size, device=device)[:, None] + torch.arange(size, device=device) - middle
        return found, (found >= 0) & (found < size)

    y, y_inside = lines(height, mask[0], half[0])
    x, x_inside = lines(width, mask[1], half[1])
    places = y[:, None, :, None] * width + x[None, :, None, :]  # [mask height, mask width, H, W]
    inside = y_inside[:, None, :, None] & x_inside[None, :, None, :]
    return places.masked_fill(~inside, height * width).flatten(2).flatten(0, 1)


def psamask_forward(
    input: Tensor,
    output: Tensor,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    """Point-wise attention of PSANet (ECCV 2018): masks around each pixel become maps over the image.

    Args:
        input: [B, h_mask * w_mask, H, W]: for each pixel the weights of the pixels around it.
        output: Written: [B, H * W, H, W]. Type 0 (collect) has the weight of pixel i for pixel p at [i, p], type 1
            (distribute) at [p, i]. 0 where the mask has no place.
        psa_type: 0 or 1.
        num_: B.
        h_feature: H.
        w_feature: W.
        h_mask: Height of the masks.
        w_mask: Their width.
        half_h_mask: Line of the mask that means the pixel itself.
        half_w_mask: Its column.
    """
    pixels = h_feature * w_feature
    places = _psa_places(h_feature, w_feature, (h_mask, w_mask), (half_h_mask, half_w_mask), input.device)
    maps = input.new_zeros(num_, pixels + 1, pixels)  # one line more takes what lies outside
    maps.scatter_(1, places.expand(num_, -1, -1), input.flatten(2))
    maps = maps[:, :pixels]
    output.copy_((maps if psa_type == 0 else maps.transpose(1, 2)).reshape_as(output))


def psamask_backward(
    grad_output: Tensor,
    grad_input: Tensor,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    """Gradient of the masks, written into ``grad_input``."""
    places = _psa_places(h_feature, w_feature, (h_mask, w_mask), (half_h_mask, half_w_mask), grad_output.device)
    maps = grad_output.flatten(2)
    maps = F.pad(maps if psa_type == 0 else maps.transpose(1, 2), (0, 0, 0, 1))
    grad_input.copy_(maps.gather(1, places.expand(num_, -1, -1)).view_as(grad_input))


def masked_im2col_forward(
    im: Tensor, mask_h_idx: Tensor, mask_w_idx: Tensor, col: Tensor, kernel_h: int, kernel_w: int, pad_h: int, pad_w: int
) -> None:
    """The windows around some pixels of one image [1, C, H, W], written into ``col`` [C * kernel_h * kernel_w, pixels]."""
    padded = F.pad(im[0], (pad_w, kernel_w, pad_h, kernel_h))
    y = mask_h_idx + torch.arange(kernel_h, device=im.device)[:, None]
    x = mask_w_idx + torch.arange(kernel_w, device=im.device)[:, None]
    col.copy_(padded[:, y[:, None], x[None]].flatten(0, 2))


def masked_col2im_forward(
    col: Tensor, mask_h_idx: Tensor, mask_w_idx: Tensor, im: Tensor, height: int, width: int, channels: int
) -> None:
    """Columns [C, pixels] written to their pixels of ``im`` [1, C, H, W]."""
    im[0, :, mask_h_idx, mask_w_idx] = col
