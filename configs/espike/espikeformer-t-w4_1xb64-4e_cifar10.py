# A trained E-SpikeFormer-t goes on with weights of 4 bits: --cfg-options load_from=CHECKPOINT of espike_cifar10.py.
_base_ = '../espike_cifar10.py'

model = dict(backbone=dict(weight_bits=4))

train_cfg = dict(max_epochs=4, val_interval=1)
optim_wrapper = dict(optimizer=dict(lr=5e-4), paramwise_cfg=dict(custom_keys=dict(weight_step=dict(decay_mult=0.0))))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=20),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=0, end=4, convert_to_iter_based=True),
]
randomness = dict(seed=0)
