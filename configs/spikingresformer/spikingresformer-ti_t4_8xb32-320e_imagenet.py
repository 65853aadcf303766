# SpikingResformer-Ti on ImageNet, four time steps: 8 GPUs x 32; optimiser, learning rate and epochs as published.
_base_ = [
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_adamw_310e.py',
    '../_base_/runtime_mmpretrain.py',
]

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmspike.SpikingResformer',
        arch='spikingresformer-ti',
        T=4,
        neuron=dict(type='LIF', tau=2.0, surrogate='atan'),
        out_indices=(-1,),
        temporal_output='mean',
    ),
    # as published, the classifier reads the mean of the membrane over space and time
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=384,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
)

train_dataloader = dict(batch_size=32)
train_cfg = dict(max_epochs=320)
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=0.01))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=5, end=320, convert_to_iter_based=True),
]
auto_scale_lr = dict(base_batch_size=256)
