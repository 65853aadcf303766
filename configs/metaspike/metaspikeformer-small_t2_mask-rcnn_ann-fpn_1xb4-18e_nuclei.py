# A small Meta-SpikeFormer (LIF, T = 2) with mmdet's own neck and heads, learned from scratch on 100 images on a CPU.
_base_ = [
    '../_base_/models/mask_rcnn_metaspike_small_fpn.py',
    '../_base_/datasets/nuclei_instance.py',
    '../_base_/schedules/nuclei_adamw_24e.py',
    '../_base_/runtime_mmdet.py',
]

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

train_cfg = dict(max_epochs=18)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='MultiStepLR', by_epoch=True, milestones=[14], gamma=0.1),
]
default_hooks = dict(logger=dict(interval=25), checkpoint=dict(max_keep_ckpts=3))
# the seed of the run in docs/benchmarks.md
randomness = dict(seed=150911171)
