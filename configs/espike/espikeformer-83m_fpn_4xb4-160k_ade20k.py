_base_ = '../fpn_metaspike_ade20k.py'

neuron = dict(_delete_=True, type='SFA', levels=4, divisor=1)
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmspike.ESpikeFormerLarge',
        arch='espikeformer-83m',
        neuron=dict(type='SFA', levels=4),
        drop_path_rate=0.1,
        out_indices=('stem', 0, 1, 2),
        temporal_output='keep',
        with_cp=True,
    ),
    neck=dict(in_channels=[64, 128, 256, 512], neuron=neuron),
    decode_head=dict(neuron=neuron),
)
