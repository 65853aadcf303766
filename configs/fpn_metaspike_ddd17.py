# Semantic FPN with Meta-SpikeFormer 15M (LIF, T = 5), spiking from end to end, on DDD17. No recipe is published for it: the
# schedule is that of ADE20K, shortened.
_base_ = [
    './_base_/models/fpn_metaspike.py',
    './_base_/datasets/ddd17.py',
    './_base_/runtime_mmseg.py',
]

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

model = dict(
    data_preprocessor=dict(_delete_=True, **_base_.data_preprocessor),
    backbone=dict(T=_base_.T, in_channels=2),
    decode_head=dict(num_classes=6, loss_decode=dict(avg_non_ignore=True)),
)

train_cfg = dict(type='IterBasedTrainLoop', max_iters=40000, val_interval=4000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.005),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=40000),
]
auto_scale_lr = dict(enable=False, base_batch_size=8)
