_base_ = '../mask_rcnn_metaspike_coco.py'

model = dict(backbone=dict(arch='metaspikeformer-31m'), neck=dict(in_channels=[96, 192, 480]))
