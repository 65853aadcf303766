# A small Meta-SpikeFormer (LIF, T = 2) with spiking neck and heads of LIF neurons, learned from scratch on 100 images on a CPU:
# all spikes are binary. Norms and a threshold of 0.5 in neck and heads are what lets LIF neurons without shortcuts fire.
_base_ = [
    './_base_/models/mask_rcnn_spiking_small_fpn.py',
    './_base_/datasets/nuclei_instance.py',
    './_base_/schedules/nuclei_adamw_24e.py',
    './_base_/runtime_mmdet.py',
]

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

model = dict(
    backbone=dict(arch=dict(_delete_=True, dims=(24, 48, 96, 128)), T=2),
    neck=dict(neuron=dict(_delete_=True, type='LIF', tau=2.0, v_threshold=0.5)),
    rpn_head=dict(neuron=dict(_delete_=True, type='LIF', tau=2.0, v_threshold=0.5), norm_cfg=dict(type='BN')),
    roi_head=dict(
        bbox_head=dict(neuron=dict(_delete_=True, type='LIF', tau=2.0, v_threshold=0.5), fc_norm_cfg=dict(type='BN1d')),
        mask_head=dict(neuron=dict(_delete_=True, type='LIF', tau=2.0, v_threshold=0.5), norm_cfg=dict(type='BN')),
    ),
)

# two time steps cost twice as much as one: fewer epochs
train_cfg = dict(max_epochs=16, val_interval=8)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='MultiStepLR', by_epoch=True, milestones=[12], gamma=0.1),
]
default_hooks = dict(logger=dict(interval=25), checkpoint=dict(max_keep_ckpts=3))
# the seed of the run in docs/benchmarks.md
randomness = dict(seed=1548512006)
