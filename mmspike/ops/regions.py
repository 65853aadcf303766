"""Features of regions: RoIAlign by torchvision, its form with a maximum and RoI pooling in plain PyTorch.

Names, arguments and their order are those of mmcv's compiled functions, which write into tensors that come as arguments.
Inputs are [B, C, H, W], regions ``rois`` [R, 5]: image index, x1, y1, x2, y2. Outputs are [R, C, h, w].
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from .sampling import bilinear, widened

NO_VALUE = -10000.0  # what mmcv's maximum starts with
CHUNK = 2**24  # values sampled at once: 64 MB in float32


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """RoIAlign (arXiv:1703.06870): ``pool_mode`` 1 averages the samples of a bin, 0 takes the largest.

    Written: ``output``; with ``pool_mode`` 0 also ``argmax_y`` and ``argmax_x``, where the largest was sampled.
    """
    features, rois = widened(input), rois.to(widened(input).dtype)
    if pool_mode == 0:
        samples = _samples(rois, aligned_height, aligned_width, spatial_scale, sampling_ratio, aligned)
        rows = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])
        for group in samples:
            of_one = features.shape[1] * group[1][0].numel() * group[2][0].numel()
            for part, y, x in zip(*(z.split(max(CHUNK // max(of_one, 1), 1)) for z in group), strict=True):
                largest = _largest_sample(rows, rois[part, 0].long(), y, x, features.shape[-2:])
                for target, values in zip((output, argmax_y, argmax_x), largest, strict=True):
                    target[part] = values.to(target.dtype)
        return
    import torchvision  # noqa: F401  (registers the operator; not at the top, since it costs a second)

    arguments = (spatial_scale, aligned_height, aligned_width, sampling_ratio, aligned)
    output.copy_(torch.ops.torchvision.roi_align(features, rois, *arguments))


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Gradient of the input, written into ``grad_input``."""
    grad = widened(grad_output)
    if pool_mode == 0:
        height, width = grad_input.shape[-2:]
        pixels, weights = bilinear(widened(argmax_y), widened(argmax_x), height, width)
        grad = grad * (argmax_y != -1)
        found = grad.new_zeros(grad_input.shape[:2].numel(), height * width)
        planes = _planes(rois, grad_input.shape[1])
        for pixel, weight in zip(pixels, weights, strict=True):
            found.view(-1).index_add_(0, (planes * height * width + pixel).flatten(), (grad * weight).flatten())
        grad_input.copy_(found.view_as(grad_input))
        return
    import torchvision  # noqa: F401

    arguments = (spatial_scale, aligned_height, aligned_width, *grad_input.shape, sampling_ratio, aligned)
    grad_input.copy_(torch.ops.torchvision._roi_align_backward(grad, rois.to(grad.dtype), *arguments))


def _planes(rois: Tensor, channels: int) -> Tensor:
    """The number of each region's and channel's plane in [B, C], as [R, C, 1, 1]."""
    return (rois[:, 0].long()[:, None] * channels + torch.arange(channels, device=rois.device))[..., None, None]


def _samples(
    rois: Tensor, height: int, width: int, scale: float, ratio: int, aligned: bool
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Regions with equally many samples a bin: their indices [r], y [r, h, samples] and x [r, w, samples]."""
    corners = rois[:, 1:] * scale - (0.5 if aligned else 0.0)
    start, size = corners[:, :2], corners[:, 2:] - corners[:, :2]
    if not aligned:
        size = size.clamp(min=1)
    bins = size / size.new_tensor([width, height])
    counts = bins.ceil().long().clamp(min=0) if ratio <= 0 else torch.full_like(bins, ratio, dtype=torch.long)
    for columns, lines in torch.unique(counts, dim=0).tolist():
        chosen = (counts == counts.new_tensor([columns, lines])).all(1).nonzero().squeeze(1)

        def positions(axis: int, bin_count: int, sample_count: int, chosen: Tensor = chosen) -> Tensor:
            first, one_bin = start[chosen, axis, None, None], bins[chosen, axis, None, None]
            index = torch.arange(bin_count, device=rois.device)[:, None] * one_bin
            within = torch.arange(sample_count, device=rois.device) + 0.5
            return first + index + within * one_bin / max(sample_count, 1)

        yield chosen, positions(1, height, lines), positions(0, width, columns)


def _largest_sample(rows: Tensor, image: Tensor, y: Tensor, x: Tensor, size: torch.Size) -> tuple[Tensor, Tensor, Tensor]:
    """The largest bilinear sample of each bin, and its y and x; each [r, C, h, w]. -10000 at -1, -1 where a bin has none.

    Args:
        rows: Features of all images' pixels [B * H * W, C].
        image: Index of each region's image [r].
        y: [r, h, samples].
        x: [r, w, samples].
        size: H and W.
    """
    shape = (*y.shape, *x.shape[1:])
    y, x = y[..., None, None].expand(shape), x[:, None, None].expand(shape)
    pixels, weights = bilinear(y, x, *size)
    base = (image * size.numel()).view(-1, 1, 1, 1, 1)
    values = sum(rows[base + pixel] * weight[..., None] for pixel, weight in zip(pixels, weights, strict=True))
    values = values.permute(0, 5, 1, 3, 2, 4).flatten(-2)  # type: ignore[union-attr]  # [r, C, h, w, samples]
    values = torch.cat([values.new_full((*values.shape[:-1], 1), NO_VALUE), values], -1)
    largest, index = values.max(-1, keepdim=True)

    def of_largest(places: Tensor) -> Tensor:
        places = places.permute(0, 1, 3, 2, 4).flatten(-2)
        places = torch.cat([places.new_full((*places.shape[:-1], 1), -1), places], -1)
        return places[:, None].expand_as(values).gather(-1, index).squeeze(-1)

    return largest.squeeze(-1), of_largest(y), of_largest(x)


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """RoI pooling (arXiv:1504.08083): the largest pixel of each bin, 0 for a bin without pixels.

    Bins start and end at mmcv's pixels, not at torchvision's. Written: ``output``, and ``argmax``, the pixel's number in its
    plane or -1.
    """
    features, height, width = widened(input), *input.shape[-2:]
    rois = rois.to(features.dtype)
    start = rois[:, 1:3] * spatial_scale
    size = (rois[:, 3:] + 1) * spatial_scale - start

    def pixels(axis: int, bin_count: int, limit: int) -> tuple[Tensor, Tensor]:
        """The pixels of each bin, and which of them exist; [R, bins, largest number of pixels]."""
        one_bin = size[:, axis, None] / bin_count
        index = torch.arange(bin_count + 1, device=rois.device)
        first = (index[:-1] * one_bin + start[:, axis, None]).floor().clamp(0, limit).long()
        end = (index[1:] * one_bin + start[:, axis, None]).ceil().clamp(0, limit).long()
        most = int((end - first).max().clamp(min=1)) if len(rois) else 1
        found = first[..., None] + torch.arange(most, device=rois.device)
        return found.clamp(max=limit - 1), found < end[..., None]

    y, y_exists = pixels(1, pooled_height, height)
    x, x_exists = pixels(0, pooled_width, width)
    rows = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])
    proper = (size > 0).all(1)  # mmcv leaves output and argmax of the others as they are
    for part in proper.nonzero().squeeze(1).split(max(CHUNK // max(y[:1].numel() * x[:1].numel() * input.shape[1], 1), 1)):
        plane = y[part][..., None, None] * width + x[part][:, None, None]  # [r, h, lines, w, columns]
        exists = y_exists[part][..., None, None] & x_exists[part][:, None, None]
        values = rows[(rois[part, 0].long() * height * width).view(-1, 1, 1, 1, 1) + plane]
        values = values.masked_fill(~exists[..., None], -torch.inf).permute(0, 5, 1, 3, 2, 4).flatten(-2)
        largest, index = values.max(-1, keepdim=True)
        plane = plane.permute(0, 1, 3, 2, 4).flatten(-2)[:, None].expand_as(values).gather(-1, index).squeeze(-1)
        empty = ~exists.permute(0, 1, 3, 2, 4).flatten(-2).any(-1)[:, None].expand_as(plane)
        output[part] = largest.squeeze(-1).masked_fill(empty, 0).to(output.dtype)
        argmax[part] = plane.masked_fill(empty, -1).to(argmax.dtype)


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Gradient of the input, written into ``grad_input``."""
    grad = widened(grad_output) * (argmax >= 0)
    places = _planes(rois, grad_input.shape[1]) * grad_input.shape[-2:].numel() + argmax.clamp(min=0)
    found = grad.new_zeros(grad_input.numel()).index_add_(0, places.flatten(), grad.flatten())
    grad_input.copy_(found.view_as(grad_input))
