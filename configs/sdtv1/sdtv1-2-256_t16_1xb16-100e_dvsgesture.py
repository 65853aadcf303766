# Spike-driven Transformer V1, 2-256, on DVS128 Gesture, 16 frames of events in. Optimiser and schedule are ours.
_base_ = [
    '../_base_/datasets/dvs_gesture.py',
    '../_base_/schedules/events_adamw_100e.py',
    '../_base_/runtime_mmpretrain.py',
]

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmspike.SpikeDrivenTransformer',
        arch=dict(dims=(32, 64, 128, 256), depth=2),
        T=16,
        in_channels=2,
        neuron=dict(type='LIF', tau=2.0),
        out_indices=(-1,),
        temporal_output='keep',
    ),
    head=dict(
        type='mmspike.SpikingLinearClsHead',
        num_classes=11,
        in_channels=256,
        neuron=dict(type='LIF', tau=2.0),
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
)

default_hooks = dict(visualization=dict(type='mmspike.EventVisualizationHook'))
