"""Which operators of mmcv mmspike provides: the name in ``mmcv._ext`` and the function."""

from collections.abc import Callable

from . import attention, boxes, deform, losses, regions


def get_compiler_version() -> str:
    """What mmcv reports as its compiler."""
    return 'none: operators by mmspike.ops'


def get_compiling_cuda_version() -> str:
    """What mmcv reports as the CUDA version of its operators, which are torchvision's and PyTorch's here."""
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
    )
}
