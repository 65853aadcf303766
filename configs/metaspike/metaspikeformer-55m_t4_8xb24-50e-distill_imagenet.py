_base_ = './metaspikeformer-15m_t4_8xb24-50e-distill_imagenet.py'

model = dict(backbone=dict(arch='metaspikeformer-55m'), head=dict(in_channels=640))
