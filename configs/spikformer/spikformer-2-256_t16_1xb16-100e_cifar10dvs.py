# Spikformer-2-256 on CIFAR10-DVS, 16 frames of events in; batches are mixed. Optimiser and schedule are ours.
_base_ = [
    '../_base_/datasets/cifar10_dvs.py',
    '../_base_/schedules/events_adamw_100e.py',
    '../_base_/runtime_mmpretrain.py',
]

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmspike.Spikformer',
        arch=dict(dims=(32, 64, 128, 256), depth=2, num_heads=16),
        T=16,
        in_channels=2,
        neuron=dict(type='LIF', tau=2.0),
        out_indices=(-1,),
        temporal_output='mean',
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=256,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.5), dict(type='CutMix', alpha=1.0)], probs=[0.3, 0.3]),
)

default_hooks = dict(visualization=dict(type='mmspike.EventVisualizationHook'))
