# Mask R-CNN with Meta-SpikeFormer 15M (LIF, T = 1), spiking from end to end, on COCO, the published recipe. To start from
# converted ImageNet weights:
#   --cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint=FILE \
#                 model.backbone.init_cfg.prefix=backbone.
_base_ = [
    './_base_/models/mask_rcnn_spiking_fpn.py',
    './_base_/datasets/coco_instance.py',
    './_base_/schedules/coco_adamw_1x.py',
    './_base_/runtime_mmdet.py',
]

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)
