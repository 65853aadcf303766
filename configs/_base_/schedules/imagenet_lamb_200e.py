# The published recipe from scratch: LAMB with clipped trust ratio, cosine. lr is for a total batch of 1024 (6e-4 per 256).
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=200, val_interval=5)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='Lamb', lr=2.4e-3, weight_decay=0.05, trust_clip=True),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=10, end=200, convert_to_iter_based=True),
]
auto_scale_lr = dict(enable=False, base_batch_size=1024)
