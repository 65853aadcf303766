# Meta-SpikeFormer, 15 M, on HAR-DVS, 8 frames of events in. Optimiser and schedule are ours, for 8 GPUs x 16.
_base_ = [
    '../_base_/datasets/har_dvs.py',
    '../_base_/schedules/events_adamw_100e.py',
    '../_base_/runtime_mmpretrain.py',
]

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmspike.MetaSpikeFormer',
        arch='metaspikeformer-15m',
        T=8,
        in_channels=2,
        neuron=dict(type='LIF', tau=2.0),
        out_indices=(3,),
        temporal_output='keep',
    ),
    head=dict(
        type='mmspike.SpikingLinearClsHead',
        num_classes=300,
        in_channels=360,
        neuron=dict(type='LIF', tau=2.0),
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
)

auto_scale_lr = dict(base_batch_size=128)

default_hooks = dict(visualization=dict(type='mmspike.EventVisualizationHook'))
