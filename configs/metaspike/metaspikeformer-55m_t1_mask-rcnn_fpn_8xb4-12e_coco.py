_base_ = '../mask_rcnn_metaspike_coco.py'

model = dict(backbone=dict(arch='metaspikeformer-55m'), neck=dict(in_channels=[128, 256, 640]))
