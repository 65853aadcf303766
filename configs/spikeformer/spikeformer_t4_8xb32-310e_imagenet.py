# Spikeformer on ImageNet, four time steps, with the analogue neuron of the published model: 8 GPUs x 32. Stochastic depth is
# the published one, optimiser and schedule are ours.
_base_ = [
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_adamw_310e.py',
    '../_base_/runtime_mmpretrain.py',
]

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmspike.Spikeformer',
        arch='spikeformer-imagenet',
        T=4,
        neuron=dict(type='PLIAF', tau=2.0),
        drop_path_rate=0.1,
        out_indices=(-1,),
        temporal_output='keep',
    ),
    head=dict(
        type='mmspike.AttentionPoolClsHead',
        num_classes=1000,
        in_channels=512,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
)

train_dataloader = dict(batch_size=32)
auto_scale_lr = dict(base_batch_size=256)
