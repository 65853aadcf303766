# E-SpikeFormer 10M (D = 4) on ImageNet, from scratch: 8 GPUs x 256.
_base_ = ['./_base_/datasets/imagenet.py', './_base_/schedules/imagenet_lamb_200e.py', './_base_/runtime_mmpretrain.py']

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmspike.ESpikeFormer',
        arch='espikeformer-m',
        neuron=dict(type='SFA', levels=4),
        out_indices=(3,),
        temporal_output='keep',
    ),
    head=dict(
        type='mmspike.SpikingLinearClsHead',
        num_classes=1000,
        in_channels=240,
        # counts, not fractions, before the classifier
        neuron=dict(type='SFA', levels=4, divisor=1),
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
)

train_dataloader = dict(batch_size=256)
# 6e-4 per 256, 5 epochs of warm-up
optim_wrapper = dict(optimizer=dict(lr=4.8e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=5, end=200, convert_to_iter_based=True),
]
auto_scale_lr = dict(base_batch_size=2048)
