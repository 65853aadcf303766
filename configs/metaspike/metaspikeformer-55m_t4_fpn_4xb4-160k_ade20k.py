_base_ = '../fpn_metaspike_ade20k.py'

model = dict(backbone=dict(arch='metaspikeformer-55m'), neck=dict(in_channels=[64, 128, 256, 640]))
