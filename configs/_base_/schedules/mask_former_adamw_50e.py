# COCO, 50 epochs, 8 GPUs x 4 images: optimiser of the published recipe for ADE20K, schedule ours (none is published).
_base_ = './mask_former_adamw_160k.py'

train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=50, val_interval=5)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=True, begin=0, end=50, convert_to_iter_based=True),
]
auto_scale_lr = dict(enable=False, base_batch_size=32)
