"""Features of regions: RoIAlign by torchvision, its form with a maximum and RoI pooling in plain PyTorch.

Names, arguments and their order are those of mmcv's compiled functions, which write into tensors that come as arguments.
Inputs are [B, C, H, W], regions ``rois`` [R, 5]: image index, x1, y1, x2, y2. Outputs are [R, C, h, w].
"""

import torch
from torch import Tensor

from mmspike.utils.errors import UserError

NO_VALUE = -10000.0  # what mmcv's maximum starts with


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
    import torchvision  # noqa: F401  (registers the operator; not at the top, since it costs a second)

    wide = [x.float() if x.dtype == torch.bfloat16 else x for x in (input, rois.to(input.dtype))]
    if pool_mode == 0:
        raise UserError("RoIAlign: pool_mode 'max' is not provided without compiled operators; use 'avg' or compile mmcv")
    arguments = (spatial_scale, aligned_height, aligned_width, sampling_ratio, aligned)
    output.copy_(torch.ops.torchvision.roi_align(*wide, *arguments))


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
    import torchvision  # noqa: F401

    if pool_mode == 0:
        raise UserError("RoIAlign: pool_mode 'max' is not provided without compiled operators; use 'avg' or compile mmcv")
    wide = [x.float() if x.dtype == torch.bfloat16 else x for x in (grad_output, rois.to(grad_output.dtype))]
    arguments = (spatial_scale, aligned_height, aligned_width, *grad_input.shape, sampling_ratio, aligned)
    grad_input.copy_(torch.ops.torchvision._roi_align_backward(*wide, *arguments))
