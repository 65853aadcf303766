# RetinaNet with E-SpikeFormer-m (10 M, D = 4), spiking from end to end, on GEN1. Its neurons have no memory from step to step:
# the features of the five steps are averaged.
_base_ = './retinanet_metaspike_gen1.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmspike.ESpikeFormer',
        arch='espikeformer-m',
        T=5,
        in_channels=4,
        neuron=dict(type='SFA', levels=4),
        out_indices=(1, 3),
        temporal_output='keep',
    ),
    neck=dict(in_channels=[96, 240]),
)
