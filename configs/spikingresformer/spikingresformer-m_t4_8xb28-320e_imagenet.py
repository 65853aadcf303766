_base_ = './spikingresformer-ti_t4_8xb32-320e_imagenet.py'

model = dict(backbone=dict(arch='spikingresformer-m'), head=dict(in_channels=768))

train_dataloader = dict(batch_size=28)
optim_wrapper = dict(optimizer=dict(lr=8e-4))
auto_scale_lr = dict(base_batch_size=224)
