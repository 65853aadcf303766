_base_ = './spikformer-8-512_t4_8xb24-310e_imagenet.py'

model = dict(backbone=dict(arch='spikformer-8-384'), head=dict(in_channels=384))
