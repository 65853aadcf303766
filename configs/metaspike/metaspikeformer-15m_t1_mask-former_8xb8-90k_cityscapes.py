# Spiking mask transformer with Meta-SpikeFormer 15M (D = 4) on Cityscapes, the published recipe: 8 GPUs x 8.
_base_ = [
    '../_base_/models/mask_former_metaspike.py',
    '../_base_/datasets/cityscapes.py',
    '../_base_/schedules/mask_former_adamw_160k.py',
    '../_base_/runtime_mmseg.py',
]

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

model = dict(data_preprocessor=dict(size=(512, 1024)), decode_head=dict(num_classes=19))
train_cfg = dict(max_iters=90000, val_interval=9000)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=90000),
]
auto_scale_lr = dict(base_batch_size=64)
default_hooks = dict(checkpoint=dict(interval=9000))
