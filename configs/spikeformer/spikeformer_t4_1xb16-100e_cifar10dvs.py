# Spikeformer on CIFAR10-DVS, 4 frames of events in, with the binary neuron. Optimiser and schedule are ours.
_base_ = [
    '../_base_/datasets/cifar10_dvs.py',
    '../_base_/schedules/events_adamw_100e.py',
    '../_base_/runtime_mmpretrain.py',
]

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

T = 4
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmspike.Spikeformer',
        arch='spikeformer-cifar10dvs',
        T=T,
        in_channels=2,
        neuron=dict(type='PLIF', tau=2.0),
        drop_path_rate=0.1,
        out_indices=(-1,),
        temporal_output='keep',
    ),
    head=dict(
        type='mmspike.AttentionPoolClsHead',
        num_classes=10,
        in_channels=256,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
)

train_pipeline = [
    dict(type='mmspike.LoadEvents'),
    dict(type='mmspike.RandomEventAffine', degrees=15, translate=0.08, scale=(0.9, 1.1), shear=8),
    dict(type='mmspike.RandomEventDrop', ratio=(0.1, 0.4), prob=0.5),
    dict(type='mmspike.EventsToFrames', T=T, by='count'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='mmspike.PackEvents'),
]
test_pipeline = [
    dict(type='mmspike.LoadEvents'),
    dict(type='mmspike.EventsToFrames', T=T, by='count'),
    dict(type='mmspike.PackEvents'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

default_hooks = dict(visualization=dict(type='mmspike.EventVisualizationHook'))
