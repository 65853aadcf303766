# SpikeYOLO of size n (13.3 M).
_base_ = '../spikeyolo_coco.py'

model = dict(
    backbone=dict(arch='spikingyolo-n'),
    neck=dict(in_channels=[96, 192, 384], channels=96),
    bbox_head=dict(in_channels=[96, 192, 384]),
)
