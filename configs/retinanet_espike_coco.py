# RetinaNet with E-SpikeFormer-m (10 M, D = 4), spiking from end to end, on COCO. No recipe is published for it: this is the
# one of Mask R-CNN.
_base_ = './retinanet_metaspike_coco.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmspike.ESpikeFormer',
        arch='espikeformer-m',
        neuron=dict(type='SFA', levels=4),
        out_indices=(1, 3),
        temporal_output='keep',
    ),
    neck=dict(in_channels=[96, 240]),
)
