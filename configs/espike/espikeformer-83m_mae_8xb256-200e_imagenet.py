# Masked pretraining of E-SpikeFormer 83M on ImageNet, no labels: 8 GPUs x 256. Only training images are read.
_base_ = ['../_base_/datasets/imagenet.py', '../_base_/schedules/mae_adamw_200e.py', '../_base_/runtime_mmpretrain.py']

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

data_preprocessor = dict(
    _delete_=True,
    type='SelfSupDataPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
)
model = dict(
    type='mmspike.SpikeMAE',
    backbone=dict(
        type='mmspike.ESpikeFormerLarge',
        arch='espikeformer-83m',
        neuron=dict(type='SFA', levels=4),
        out_indices=(2,),
    ),
    neck=dict(type='mmspike.SpikeMAEDecoder', in_channels=512, patch_size=16, dim=256, depth=4, num_heads=4),
    mask_ratio=0.5,
)

train_pipeline = [
    dict(type='mmspike.LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=224, crop_ratio_range=(0.2, 1.0), backend='pillow', interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
train_dataloader = dict(batch_size=256, dataset=dict(pipeline=train_pipeline))
# there is nothing to predict: the loss is the measure
val_dataloader = None
val_evaluator = None
val_cfg = None
test_dataloader = None
test_evaluator = None
test_cfg = None
