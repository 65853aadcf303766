# Semantic FPN, spiking from end to end, on ADE20K: strides 4, 8, 16 from the backbone, 32 from a stage of its own.
_base_ = '../fpn_metaspike_ade20k.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmspike.ExtraStages',
        backbone=dict(type='mmspike.MaxFormer', arch='maxformer-10-384', T=1),
        num_stages=1,
        neuron=dict(type='LIF', tau=2.0),
        temporal_output='keep',
    ),
    neck=dict(in_channels=[96, 192, 384, 384]),
    decode_head=dict(feature_strides=[4, 8, 16, 32]),
)
