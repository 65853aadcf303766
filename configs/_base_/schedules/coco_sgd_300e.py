# SpikeYOLO's schedule: 300 epochs, 40 images an iteration, two iterations a step. AMP by --amp.
max_epochs = 300
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=10)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    accumulative_counts=2,
    # published: of a nominal batch of 64, hence times 80 / 64
    optimizer=dict(type='SGD', lr=0.01, momentum=0.937, nesterov=True, weight_decay=5e-4 * 80 / 64),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=10.0),
)
param_scheduler = [
    # from 0.01 to 4e-5, and a warm-up of ten epochs; the published one lets the rate of biases fall from 0.1 meanwhile
    dict(type='LinearLR', start_factor=1.0, end_factor=0.004, by_epoch=True, begin=0, end=max_epochs),
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(type='LinearMomentum', start_factor=0.8 / 0.937, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
]
auto_scale_lr = dict(enable=False, base_batch_size=40)
