# Semantic FPN with E-SpikeFormer-t (D = 4), spiking from end to end, learned from scratch on 100 images on a CPU.
_base_ = [
    './_base_/models/fpn_metaspike.py',
    './_base_/datasets/nuclei_semantic.py',
    './_base_/runtime_mmseg.py',
]

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

neuron = dict(_delete_=True, type='SFA', levels=4, divisor=1)
# Photos of two kinds, dark and bright, make statistics of a batch differ from those of the data: small crops allow for large
# batches, and running statistics follow slowly.
norm_cfg = dict(type='BN', momentum=0.05)
crop_size = (128, 128)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        _delete_=True,
        type='mmspike.ESpikeFormer',
        arch='espikeformer-t',
        neuron=dict(type='SFA', levels=4),
        norm_cfg=norm_cfg,
        out_indices=('stem', 0, 1, 3),
        temporal_output='keep',
    ),
    neck=dict(in_channels=[12, 24, 48, 128], out_channels=48, norm_cfg=norm_cfg, neuron=neuron),
    decode_head=dict(
        in_channels=[48, 48, 48, 48],
        channels=48,
        num_classes=2,
        norm_cfg=norm_cfg,
        neuron=neuron,
        # one pixel in ten is of a nucleus
        loss_decode=dict(class_weight=[1.0, 2.0]),
    ),
    # windows of the size of the crops: attention sums over the tokens that it sees
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(96, 96)),
)

# The high learning rate makes training from scratch work.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=400, val_interval=100)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=30, end=400),
]
auto_scale_lr = dict(enable=False, base_batch_size=16)
default_hooks = dict(logger=dict(interval=25), checkpoint=dict(interval=100, max_keep_ckpts=3))
randomness = dict(seed=0)
