_base_ = './sdtv1-8-512_t4_8xb48-310e_imagenet.py'

model = dict(backbone=dict(arch='sdtv1-8-768'), head=dict(in_channels=768))

train_dataloader = dict(batch_size=36)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
auto_scale_lr = dict(base_batch_size=288)
