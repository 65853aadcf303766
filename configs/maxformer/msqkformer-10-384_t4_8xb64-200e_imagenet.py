_base_ = './maxformer-10-384_t4_8xb64-200e_imagenet.py'

model = dict(backbone=dict(type='mmspike.MSQKFormer', arch='msqkformer-10-384'))
