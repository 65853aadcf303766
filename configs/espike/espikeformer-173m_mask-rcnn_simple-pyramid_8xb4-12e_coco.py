_base_ = './espikeformer-83m_mask-rcnn_simple-pyramid_8xb4-12e_coco.py'

model = dict(backbone=dict(arch='espikeformer-173m'), neck=dict(in_channels=768))
