# Mask R-CNN that is spiking from end to end: mask_rcnn_metaspike_fpn.py with our neck and heads in place of mmdet's. They read
# the integer spikes of SFA neurons with D = 4 and divisor 1, as published; every feature keeps its time axis.
_base_ = './mask_rcnn_metaspike_fpn.py'

neuron = dict(type='SFA', levels=4, divisor=1)
model = dict(
    backbone=dict(temporal_output='keep'),
    # strides 4, 8, 16 from the backbone, 32 and 64 by strided convolutions on top
    neck=dict(
        _delete_=True, type='mmspike.SpikingFPN', in_channels=[64, 128, 360], out_channels=256, num_outs=5, neuron=neuron
    ),
    rpn_head=dict(type='mmspike.SpikingRPNHead', neuron=neuron),
    roi_head=dict(
        type='mmspike.SpikingStandardRoIHead',
        bbox_roi_extractor=dict(type='mmspike.SpikingRoIExtractor'),
        bbox_head=dict(type='mmspike.SpikingShared2FCBBoxHead', neuron=neuron),
        mask_roi_extractor=dict(type='mmspike.SpikingRoIExtractor'),
        mask_head=dict(type='mmspike.SpikingFCNMaskHead', neuron=neuron),
    ),
)
