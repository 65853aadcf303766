# A small SpikeYOLO (LIF, T = 4) on drawn recordings of an event camera, from scratch on a CPU in minutes.
_base_ = [
    './_base_/models/spikeyolo_s.py',
    './_base_/datasets/moving_shapes_detection.py',
    './_base_/runtime_mmdet.py',
]

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

neuron = dict(_delete_=True, type='LIF', tau=2.0, v_threshold=0.5)
model = dict(
    type='mmspike.EventDetector',
    data_preprocessor=dict(_delete_=True, **_base_.data_preprocessor),
    backbone=dict(
        arch=dict(_delete_=True, dims=(16, 32, 64, 96), depths=(1, 1, 1, 1)),
        T=_base_.T,
        in_channels=2,
        neuron=neuron,
    ),
    neck=dict(in_channels=[32, 64, 96], channels=24, neuron=neuron),
    bbox_head=dict(
        num_classes=3,
        in_channels=[24, 48, 96],
        bins=8,
        # two shapes in 128 x 96 px are 67 in 640 x 640 px
        objects=67,
        box_channels=32,
        cls_channels=24,
        neuron=neuron,
    ),
    test_cfg=dict(nms_pre=300, nms=dict(iou_threshold=0.6), max_per_img=20),
)

max_epochs = 8
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=4)
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
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=4, max_keep_ckpts=1))
randomness = dict(seed=0)
