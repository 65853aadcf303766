_base_ = './espikeformer-83m_mae-ft_8xb128-150e_imagenet.py'

model = dict(backbone=dict(arch='espikeformer-173m'), head=dict(in_channels=768))
