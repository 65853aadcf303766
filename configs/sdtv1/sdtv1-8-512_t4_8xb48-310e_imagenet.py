# Spike-driven Transformer V1, 8-512, on ImageNet, four time steps: 8 GPUs x 48, the published optimiser and schedule.
_base_ = [
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_lamb_200e.py',
    '../_base_/runtime_mmpretrain.py',
]

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmspike.SpikeDrivenTransformer',
        arch='sdtv1-8-512',
        T=4,
        neuron=dict(type='LIF', tau=2.0),
        out_indices=(-1,),
        temporal_output='keep',
    ),
    head=dict(
        type='mmspike.SpikingLinearClsHead',
        num_classes=1000,
        in_channels=512,
        neuron=dict(type='LIF', tau=2.0),
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
)

train_dataloader = dict(batch_size=48)
train_cfg = dict(max_epochs=310)
optim_wrapper = dict(optimizer=dict(lr=1.5e-3, weight_decay=0.01, trust_clip=False))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=True, begin=0, end=20, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1.5e-5, by_epoch=True, begin=20, end=300, convert_to_iter_based=True),
]
auto_scale_lr = dict(base_batch_size=384)
