# Spiking mask transformer with E-SpikeFormer 19M (D = 4) on PASCAL VOC 2012, the published recipe: 8 GPUs x 16.
_base_ = [
    '../_base_/models/mask_former_espike.py',
    '../_base_/datasets/voc2012_512.py',
    '../_base_/schedules/mask_former_adamw_160k.py',
    '../_base_/runtime_mmseg.py',
]

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

model = dict(decode_head=dict(num_classes=21))
train_dataloader = dict(batch_size=16)
train_cfg = dict(max_iters=120000, val_interval=12000)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=120000),
]
auto_scale_lr = dict(base_batch_size=128)
default_hooks = dict(checkpoint=dict(interval=12000))
