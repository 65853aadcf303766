_base_ = './espikeformer-83m_fpn_4xb4-160k_ade20k.py'

model = dict(backbone=dict(arch='espikeformer-173m'), neck=dict(in_channels=[96, 192, 384, 768]))
