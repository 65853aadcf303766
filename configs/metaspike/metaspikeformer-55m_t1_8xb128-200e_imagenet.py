_base_ = '../metaspike_imagenet.py'

model = dict(backbone=dict(arch='metaspikeformer-55m'), head=dict(in_channels=640))
