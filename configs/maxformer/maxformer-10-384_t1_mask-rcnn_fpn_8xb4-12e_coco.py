# Mask R-CNN, spiking from end to end, on COCO: strides 4, 8, 16 from the backbone, 32 from a stage of its own, 64 in the neck.
# The recipe is that of Meta-SpikeFormer; its authors publish none for dense prediction.
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
        type='mmspike.ExtraStages',
        backbone=dict(type='mmspike.MaxFormer', arch='maxformer-10-384', T=1),
        num_stages=1,
        neuron=dict(type='LIF', tau=2.0),
        temporal_output='keep',
    ),
    neck=dict(in_channels=[96, 192, 384, 384]),
)
