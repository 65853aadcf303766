# Mask R-CNN with E-SpikeFormer 83M, spiking from end to end: all levels are made of the trunk's one feature of stride 16. To
# start from a pretrained encoder (masked, fine-tuned, or converted):
#   --cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint=FILE \
#                 model.backbone.init_cfg.prefix=backbone.
_base_ = [
    '../_base_/models/mask_rcnn_spiking_fpn.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/coco_adamw_1x.py',
    '../_base_/runtime_mmdet.py',
]

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmspike.ESpikeFormerLarge',
        arch='espikeformer-83m',
        neuron=dict(type='SFA', levels=4),
        drop_path_rate=0.1,
        out_indices=(2,),
        temporal_output='keep',
        with_cp=True,
    ),
    neck=dict(
        _delete_=True,
        type='mmspike.SpikingSimplePyramid',
        in_channels=512,
        out_channels=256,
        num_outs=5,
        norm_cfg=dict(type='BN'),
        neuron=dict(type='SFA', levels=4, divisor=1),
    ),
)
