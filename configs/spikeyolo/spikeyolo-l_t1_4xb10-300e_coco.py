# SpikeYOLO of size l (68.5 M).
_base_ = '../spikeyolo_coco.py'

model = dict(
    backbone=dict(arch='spikingyolo-l'),
    neck=dict(in_channels=[192, 384, 768], channels=192, mlp_ratio=2),
    bbox_head=dict(in_channels=[192, 384, 768]),
)
