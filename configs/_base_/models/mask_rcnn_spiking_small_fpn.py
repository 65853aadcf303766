# A small Mask R-CNN, spiking from end to end, for images of 150 to 300 px that are learned from scratch on a CPU. Set the
# backbone; num_classes is to be set in bbox_head and mask_head.
_base_ = './mask_rcnn_spiking_fpn.py'

model = dict(
    # Levels of strides 32 and 64 are sampled from the one of stride 16; the norm is what makes training from scratch work.
    neck=dict(in_channels=[24, 48, 128], out_channels=64, extra_levels='pool', norm_cfg=dict(type='BN')),
    rpn_head=dict(in_channels=64, feat_channels=64, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64),
        bbox_head=dict(in_channels=64, fc_out_channels=256, num_classes=1),
        mask_roi_extractor=dict(out_channels=64),
        mask_head=dict(num_convs=2, in_channels=64, conv_out_channels=64, num_classes=1),
    ),
    train_cfg=dict(rpn_proposal=dict(nms_pre=500, max_per_img=500), rcnn=dict(sampler=dict(num=128))),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=200)),
)
