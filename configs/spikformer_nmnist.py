# A small Spikformer on N-MNIST: four frames of events in, 34 px, from scratch on a CPU.
_base_ = ['./_base_/datasets/nmnist.py', './_base_/runtime_mmpretrain.py']

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmspike.Spikformer',
        arch=dict(dims=(16, 32, 64, 128), depth=1, num_heads=4, mlp_ratio=2),
        T=4,
        in_channels=2,
        # tokens of 4 x 4 px
        strides=(2, 2, 1, 1),
        neuron=dict(type='LIF', tau=2.0),
        out_indices=(-1,),
        temporal_output='mean',
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=128,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
)

# 10 iterations an epoch with 300 recordings
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=60, val_interval=10)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=3e-3, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=0, end=60, convert_to_iter_based=True),
]
auto_scale_lr = dict(enable=False, base_batch_size=32)
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=10, max_keep_ckpts=2),
    visualization=dict(type='mmspike.EventVisualizationHook'),
)
randomness = dict(seed=0)
