_base_ = './spikingresformer-ti_t4_8xb32-320e_imagenet.py'

model = dict(backbone=dict(arch='spikingresformer-s'), head=dict(in_channels=512))
