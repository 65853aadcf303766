_base_ = '../espike_imagenet.py'

model = dict(backbone=dict(arch='espikeformer-s'), head=dict(in_channels=192))
