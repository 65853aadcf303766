"""Deformable convolutions, versions 1 (arXiv:1703.06211) and 2 (arXiv:1811.11168), by torchvision's operator.

Names, arguments and their order are those of mmcv's compiled functions: results are written into tensors that come as
arguments, scratch memory (``columns``, ``ones``) comes along. Inputs are [B, C, H, W], offsets [B, 2 * groups * k * k, H', W'].
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmspike.utils.errors import UserError

from .sampling import widened


def _convolve(tensors: tuple[Tensor, ...], geometry: tuple[int, ...], use_mask: bool) -> Tensor:
    import torchvision  # noqa: F401  (registers the operator; not at the top, since it costs a second)

    wide = [widened(x) for x in tensors]
    return torch.ops.torchvision.deform_conv2d(*wide, *geometry, use_mask)


def _gradients(grad: Tensor, tensors: tuple[Tensor, ...], geometry: tuple[int, ...], use_mask: bool) -> tuple[Tensor, ...]:
    """Gradients of input, weight, offset, mask and bias."""
    import torchvision  # noqa: F401

    wide = [widened(x) for x in (grad, *tensors)]
    return torch.ops.torchvision._deform_conv2d_backward(*wide, *geometry, use_mask)


def _of_size(samples: Tensor, size: torch.Size) -> Tensor:
    """Offsets or masks [B, N, ...] as mmcv's version 2 reads those of another size than the output's.

    It takes the memory of each sample as if it had that size, and leaves out the rest. DyHead of mmdet hands over offsets of an
    image twice as large, and is trained so.
    """
    if samples.shape[-2:] == size:
        return samples
    needed = samples.shape[1] * size.numel()
    if samples[0].numel() < needed:
        raise UserError(
            f'modulated deformable convolution: offsets and masks must have the size of the output, {tuple(size)}, but got '
            f'{tuple(samples.shape[-2:])}'
        )
    return samples.flatten(1)[:, :needed].unflatten(1, (samples.shape[1], *size))


def _of_size_backward(grad: Tensor, target: Tensor) -> None:
    """Write the gradient of :func:`_of_size` into ``target``, which has the shape of the samples."""
    if grad.shape != target.shape:
        grad = F.pad(grad.flatten(1), (0, target[0].numel() - grad[0].numel())).view_as(target)
    target.copy_(grad)


def _unmodulated(input: Tensor, weight: Tensor, offset: Tensor) -> tuple[Tensor, ...]:
    """The five tensors of torchvision's operator: no mask, no bias."""
    nothing = input.new_zeros(input.shape[0], 0)
    return input, weight, offset, nothing, input.new_zeros(weight.shape[0])


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Version 1. Written: ``output`` [B, C', H', W']."""
    geometry = (dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
    output.copy_(_convolve(_unmodulated(input, weight, offset), geometry, False))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,
    gradInput: Tensor,
    gradOffset: Tensor,
    weight: Tensor,
    columns: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Gradients of version 1. Written: ``gradInput``, ``gradOffset``; ``columns`` keeps the weight's for the next function."""
    geometry = (dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
    grads = _gradients(gradOutput, _unmodulated(input, weight, offset), geometry, False)
    gradInput.copy_(grads[0])
    gradOffset.copy_(grads[2])
    columns.resize_(weight.shape).copy_(grads[1])


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,
    gradWeight: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    scale: float,
    im2col_step: int,
) -> None:
    """Gradient of version 1's weight, added to ``gradWeight`` times ``scale``.

    torchvision computes all gradients at once. mmcv calls :func:`deform_conv_backward_input` before this in the same backward
    if it calls it at all, with the same ``columns``: the weight's gradient lies there then.
    """
    if columns.shape == gradWeight.shape:
        grad = columns
    else:
        geometry = (dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
        grad = _gradients(gradOutput, _unmodulated(input, torch.zeros_like(gradWeight), offset), geometry, False)[1]
    gradWeight.add_(grad.to(gradWeight.dtype), alpha=scale)


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Version 2: every sample has a weight in ``mask`` [B, groups * k * k, H', W']. Written: ``output`` [B, C', H', W']."""
    geometry = (stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, group, deformable_group)
    bias = bias if with_bias else input.new_zeros(weight.shape[0])
    offset, mask = (_of_size(x, output.shape[-2:]) for x in (offset, mask))
    output.copy_(_convolve((input, weight, offset, mask, bias), geometry, True))


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Gradients of version 2, added to ``grad_weight`` and ``grad_bias``, written into the others."""
    geometry = (stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, group, deformable_group)
    offset, mask = (_of_size(x, grad_output.shape[-2:]) for x in (offset, mask))
    tensors = (input, weight, offset, mask, bias if with_bias else input.new_zeros(weight.shape[0]))
    by_input, by_weight, by_offset, by_mask, by_bias = _gradients(grad_output, tensors, geometry, True)
    grad_input.copy_(by_input)
    _of_size_backward(by_offset, grad_offset)
    _of_size_backward(by_mask, grad_mask)
    grad_weight.add_(by_weight)
    if with_bias:
        grad_bias.add_(by_bias)
