# E-SpikeFormer-t with LIF neurons on N-Caltech101, 10 frames of events in. Optimiser and schedule are ours.
_base_ = [
    '../_base_/datasets/n_caltech101.py',
    '../_base_/schedules/events_adamw_100e.py',
    '../_base_/runtime_mmpretrain.py',
]

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmspike.ESpikeFormer',
        arch='espikeformer-t',
        T=10,
        in_channels=2,
        neuron=dict(type='LIF', tau=2.0),
        out_indices=(3,),
        temporal_output='keep',
    ),
    head=dict(
        type='mmspike.SpikingLinearClsHead',
        num_classes=101,
        in_channels=128,
        neuron=dict(type='LIF', tau=2.0),
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
)

auto_scale_lr = dict(base_batch_size=32)

default_hooks = dict(visualization=dict(type='mmspike.EventVisualizationHook'))
