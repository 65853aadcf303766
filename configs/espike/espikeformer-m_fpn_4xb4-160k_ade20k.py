_base_ = '../fpn_espike_ade20k.py'

model = dict(backbone=dict(arch='espikeformer-m'), neck=dict(in_channels=[24, 48, 96, 240]))
