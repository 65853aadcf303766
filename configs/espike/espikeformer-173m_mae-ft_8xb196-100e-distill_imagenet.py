_base_ = './espikeformer-83m_mae-ft_8xb196-100e-distill_imagenet.py'

model = dict(backbone=dict(arch='espikeformer-173m'), head=dict(in_channels=768))
