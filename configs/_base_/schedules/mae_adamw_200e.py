# Masked pretraining: AdamW as in MAE (arXiv 2111.06377), 20 epochs of warm-up, cosine. lr is for a total batch of 2048 (1.5e-4
# per 256).
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=200)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1.2e-3, betas=(0.9, 0.95), weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, by_epoch=True, begin=0, end=20, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=True, begin=20, end=200, convert_to_iter_based=True),
]
auto_scale_lr = dict(enable=False, base_batch_size=2048)
