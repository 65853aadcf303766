_base_ = '../espike_imagenet.py'

model = dict(backbone=dict(arch='espikeformer-l'), head=dict(in_channels=360))
