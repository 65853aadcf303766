"""The operators of mmcv that mmspike provides: the name in ``mmcv._ext`` and the function."""

from collections.abc import Callable

from . import attention, borders, boxes, deform, losses, reassembly, regions, sync_bn


def get_compiler_version() -> str:
    """The name that mmcv reports as its compiler."""
    return 'none: operators by mmspike.ops'


def get_compiling_cuda_version() -> str:
    """The CUDA version that mmcv reports of its operators, which are torchvision's and PyTorch's here."""
    return 'not available'


OPERATORS: dict[str, Callable] = {
    function.__name__: function
    for function in (
        get_compiler_version,
        get_compiling_cuda_version,
        boxes.nms,
        boxes.softnms,
        boxes.nms_match,
        boxes.bbox_overlaps,
        regions.roi_align_forward,
        regions.roi_align_backward,
        regions.roi_pool_forward,
        regions.roi_pool_backward,
        borders.border_align_forward,
        borders.border_align_backward,
        deform.deform_conv_forward,
        deform.deform_conv_backward_input,
        deform.deform_conv_backward_parameters,
        deform.modulated_deform_conv_forward,
        deform.modulated_deform_conv_backward,
        losses.sigmoid_focal_loss_forward,
        losses.sigmoid_focal_loss_backward,
        losses.softmax_focal_loss_forward,
        losses.softmax_focal_loss_backward,
        attention.ms_deform_attn_forward,
        attention.ms_deform_attn_backward,
        reassembly.carafe_forward,
        reassembly.carafe_backward,
        reassembly.carafe_naive_forward,
        reassembly.carafe_naive_backward,
        reassembly.psamask_forward,
        reassembly.psamask_backward,
        reassembly.masked_im2col_forward,
        reassembly.masked_col2im_forward,
        sync_bn.sync_bn_forward_mean,
        sync_bn.sync_bn_forward_var,
        sync_bn.sync_bn_forward_output,
        sync_bn.sync_bn_backward_param,
        sync_bn.sync_bn_backward_data,
    )
}
