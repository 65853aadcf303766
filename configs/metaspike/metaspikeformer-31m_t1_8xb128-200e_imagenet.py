_base_ = '../metaspike_imagenet.py'

model = dict(backbone=dict(arch='metaspikeformer-31m'), head=dict(in_channels=480))
