_base_ = './spikingresformer-ti_t4_8xb32-320e_imagenet.py'

# batches this small share their norms, as published
model = dict(backbone=dict(arch='spikingresformer-l', norm_cfg=dict(type='SyncBN')), head=dict(in_channels=1024))

train_dataloader = dict(batch_size=16)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
auto_scale_lr = dict(base_batch_size=128)
