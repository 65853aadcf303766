# Spikformer-8-512 on ImageNet, four time steps: 8 GPUs x 24, the published optimiser and schedule.
_base_ = [
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_adamw_310e.py',
    '../_base_/runtime_mmpretrain.py',
]

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmspike.Spikformer',
        arch='spikformer-8-512',
        T=4,
        neuron=dict(type='LIF', tau=2.0),
        out_indices=(-1,),
        temporal_output='mean',
    ),
    # as published, the classifier reads the mean of the spikes over space and time
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=512,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
)

train_dataloader = dict(batch_size=24)
