# SpikeYOLO of size m (47.8 M).
_base_ = '../spikeyolo_coco.py'

model = dict(
    backbone=dict(arch='spikingyolo-m'),
    neck=dict(in_channels=[160, 320, 640], channels=160, mlp_ratio=2),
    bbox_head=dict(in_channels=[160, 320, 640]),
)
