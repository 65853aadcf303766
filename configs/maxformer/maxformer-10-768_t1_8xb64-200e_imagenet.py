# One time step: 1.2e-3 per 256 images.
_base_ = './maxformer-10-768_t4_8xb64-200e_imagenet.py'

model = dict(backbone=dict(T=1))

optim_wrapper = dict(optimizer=dict(lr=2.4e-3))
