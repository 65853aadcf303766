# An ordinary ResNet-18 with mmdet's neck and heads, learned from scratch on 100 images on a CPU: to be converted.
_base_ = [
    '../_base_/models/mask_rcnn_metaspike_small_fpn.py',
    '../_base_/datasets/nuclei_instance.py',
    '../_base_/schedules/nuclei_adamw_24e.py',
    '../_base_/runtime_mmdet.py',
]

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

model = dict(
    backbone=dict(_delete_=True, type='ResNet', depth=18, norm_cfg=dict(type='BN'), norm_eval=False),
    neck=dict(in_channels=[64, 128, 256, 512]),
)

default_hooks = dict(logger=dict(interval=25), checkpoint=dict(max_keep_ckpts=3))
randomness = dict(seed=0)
