_base_ = '../mask_rcnn_espike_coco.py'

model = dict(
    backbone=dict(arch='espikeformer-l'),
    neck=dict(in_channels=[64, 128, 360], out_channels=256),
    rpn_head=dict(in_channels=256, feat_channels=256),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=256),
        bbox_head=dict(in_channels=256, fc_out_channels=1024),
        mask_roi_extractor=dict(out_channels=256),
        mask_head=dict(in_channels=256, conv_out_channels=256),
    ),
)
