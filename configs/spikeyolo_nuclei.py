# A small SpikeYOLO (0.8 M, T = 1, D = 4) for 100 images, from scratch on a CPU. Its levels have strides 4, 8 and 16: half of
# the nuclei are smaller than 15 px.
_base_ = [
    './_base_/models/spikeyolo_s.py',
    './_base_/datasets/nuclei_detection.py',
    './_base_/runtime_mmdet.py',
]

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

model = dict(
    backbone=dict(arch=dict(_delete_=True, dims=(12, 24, 48, 96), depths=(1, 1, 1, 1)), strides=(2, 2, 2, 2)),
    neck=dict(in_channels=[24, 48, 96], channels=24),
    # 27 nuclei in 256 px are 170 in 640 px
    bbox_head=dict(
        num_classes=1,
        in_channels=[24, 48, 96],
        strides=[4, 8, 16],
        bins=8,
        objects=170,
        box_channels=32,
        cls_channels=24,
    ),
    test_cfg=dict(nms_pre=1000, nms=dict(iou_threshold=0.6), max_per_img=200),
)

max_epochs = 30
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=3e-3, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=10.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=0,
        end=max_epochs,
        T_max=max_epochs,
        eta_min=3e-5,
        convert_to_iter_based=True,
    ),
]
custom_hooks = _base_.custom_hooks + [
    dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=5e-3, gamma=50, update_buffers=True, priority=49),
]
default_hooks = dict(logger=dict(interval=25), checkpoint=dict(interval=10, max_keep_ckpts=1))
