# Max-Former-10-384, four time steps, on ImageNet: 8 GPUs x 64, the published recipe (AdamW, 1.35e-3 per 256 images, 5 epochs
# of warm-up, cosine per iteration, RandAugment, erasing, and mixup or CutMix for half of the batches).
_base_ = ['../_base_/datasets/imagenet_augmented.py', '../_base_/runtime_mmpretrain.py']

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmspike.MaxFormer',
        arch='maxformer-10-384',
        T=4,
        neuron=dict(type='LIF', tau=2.0),
        out_indices=(2,),
        temporal_output='keep',
    ),
    head=dict(
        type='mmspike.SpikingLinearClsHead',
        num_classes=1000,
        in_channels=384,
        neuron=dict(type='LIF', tau=2.0),
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.25), dict(type='CutMix', alpha=1.0)], probs=[0.25, 0.25]),
)

train_dataloader = dict(batch_size=64)

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=200, val_interval=5)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2.7e-3, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=2.5e-6, by_epoch=True, begin=5, end=200, convert_to_iter_based=True),
]
auto_scale_lr = dict(enable=False, base_batch_size=512)
