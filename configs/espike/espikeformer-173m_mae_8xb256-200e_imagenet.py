_base_ = './espikeformer-83m_mae_8xb256-200e_imagenet.py'

model = dict(backbone=dict(arch='espikeformer-173m'), neck=dict(in_channels=768))
