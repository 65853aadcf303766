_base_ = '../espike_imagenet.py'

model = dict(backbone=dict(arch='espikeformer-t'), head=dict(in_channels=128))
