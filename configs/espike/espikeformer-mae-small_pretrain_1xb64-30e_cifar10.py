# Masked pretraining of a small encoder of the large kind, on images of 32 px in class folders whose classes it does not look
# at. Strides 2, 2, 1, 1 make 64 patches of 4 px.
_base_ = ['../_base_/datasets/cifar10_folders.py', '../_base_/schedules/mae_adamw_200e.py', '../_base_/runtime_mmpretrain.py']

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

data_preprocessor = dict(
    _delete_=True,
    type='SelfSupDataPreprocessor',
    mean=[125.307, 122.961, 113.8575],
    std=[51.5865, 50.847, 51.255],
    to_rgb=True,
)
model = dict(
    type='mmspike.SpikeMAE',
    backbone=dict(
        type='mmspike.ESpikeFormerLarge',
        arch=dict(dims=(16, 32, 64), depths=(1, 1, 1, 2), num_heads=4, rep_conv=False),
        strides=(2, 2, 1, 1),
        neuron=dict(type='SFA', levels=4),
        out_indices=(2,),
    ),
    neck=dict(type='mmspike.SpikeMAEDecoder', in_channels=64, patch_size=4, dim=64, depth=1, num_heads=4),
    mask_ratio=0.5,
)

train_pipeline = [
    dict(type='mmspike.LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=32, crop_ratio_range=(0.5, 1.0), backend='pillow', interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

# 79 iterations an epoch
train_cfg = dict(max_epochs=30)
optim_wrapper = dict(optimizer=dict(lr=2e-3), clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=200),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=0, end=30, convert_to_iter_based=True),
]
auto_scale_lr = dict(base_batch_size=64)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
val_dataloader = None
val_evaluator = None
val_cfg = None
test_dataloader = None
test_evaluator = None
test_cfg = None
