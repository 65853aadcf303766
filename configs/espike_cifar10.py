# E-SpikeFormer-t for images of 32 px, in class folders: the first convolution has stride 1 instead of 2.
_base_ = ['./_base_/datasets/cifar10_folders.py', './_base_/runtime_mmpretrain.py']

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmspike.ESpikeFormer',
        arch='espikeformer-t',
        strides=(1, 2, 2, 2, 1),
        neuron=dict(type='SFA', levels=4),
        out_indices=(3,),
        temporal_output='keep',
    ),
    head=dict(
        type='mmspike.SpikingLinearClsHead',
        num_classes=10,
        in_channels=128,
        neuron=dict(type='SFA', levels=4, divisor=1),
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
)

# 79 iterations an epoch
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=32, val_interval=8)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=0, end=32, convert_to_iter_based=True),
]
auto_scale_lr = dict(enable=False, base_batch_size=64)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=2))
# the seed of the run in docs/benchmarks.md
randomness = dict(seed=1584787281)
