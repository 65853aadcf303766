# Mask R-CNN with E-SpikeFormer-m (10 M, D = 4), spiking from end to end, on COCO, the published recipe and widths (FPN 192,
# FC 768). To start from converted ImageNet weights:
#   --cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint=FILE \
#                 model.backbone.init_cfg.prefix=backbone.
_base_ = [
    './_base_/models/mask_rcnn_spiking_fpn.py',
    './_base_/datasets/coco_instance.py',
    './_base_/schedules/coco_adamw_1x.py',
    './_base_/runtime_mmdet.py',
]

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmspike.ESpikeFormer',
        arch='espikeformer-m',
        neuron=dict(type='SFA', levels=4),
        # strides 4, 8 and 16; of the two stages of stride 16 the last
        out_indices=(0, 1, 3),
        temporal_output='keep',
    ),
    neck=dict(in_channels=[48, 96, 240], out_channels=192),
    rpn_head=dict(in_channels=192, feat_channels=192),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=192),
        bbox_head=dict(in_channels=192, fc_out_channels=768),
        mask_roi_extractor=dict(out_channels=192),
        mask_head=dict(in_channels=192, conv_out_channels=192),
    ),
)
