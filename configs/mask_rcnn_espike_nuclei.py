# A small E-SpikeFormer (D = 4) with spiking neck and heads, learned from scratch on 100 images on a CPU. Of its 2.6 M weights
# more than in espikeformer-t lie at the strides 4 and 8 and fewer at 16: half of the nuclei are smaller than 15 px.
_base_ = [
    './_base_/models/mask_rcnn_spiking_small_fpn.py',
    './_base_/datasets/nuclei_instance_augmented.py',
    './_base_/schedules/nuclei_adamw_24e.py',
    './_base_/runtime_mmdet.py',
]

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmspike.ESpikeFormer',
        arch=dict(dims=(32, 64, 96, 128), depths=(1, 1, 2, 3, 1)),
        neuron=dict(type='SFA', levels=4),
        out_indices=(0, 1, 3),
        temporal_output='keep',
    ),
    neck=dict(in_channels=[32, 64, 128]),
    # not in the RPN, whose levels share their layers and differ in their statistics
    roi_head=dict(
        bbox_head=dict(fc_out_channels=128, fc_norm_cfg=dict(type='BN1d')),
        mask_head=dict(norm_cfg=dict(type='BN')),
    ),
)

max_epochs = 24
optim_wrapper = dict(paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0), clip_grad=dict(max_norm=10.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=0,
        end=max_epochs,
        T_max=max_epochs,
        eta_min=2e-5,
        convert_to_iter_based=True,
    ),
]
custom_hooks = _base_.custom_hooks + [
    dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=5e-3, gamma=50, update_buffers=True, priority=49),
]
default_hooks = dict(logger=dict(interval=25), checkpoint=dict(max_keep_ckpts=3))
# the seed of the run in docs/benchmarks.md
randomness = dict(seed=0)
