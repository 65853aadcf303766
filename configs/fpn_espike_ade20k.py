# Semantic FPN with E-SpikeFormer 19M (D = 4) on ADE20K, spiking from end to end.
_base_ = './fpn_metaspike_ade20k.py'

neuron = dict(_delete_=True, type='SFA', levels=4, divisor=1)
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmspike.ESpikeFormer',
        arch='espikeformer-l',
        neuron=dict(type='SFA', levels=4),
        out_indices=('stem', 0, 1, 3),
        temporal_output='keep',
    ),
    neck=dict(in_channels=[32, 64, 128, 360], neuron=neuron),
    decode_head=dict(neuron=neuron),
)
