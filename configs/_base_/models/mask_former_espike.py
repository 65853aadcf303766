# mask_former_metaspike.py on E-SpikeFormer 19M.
_base_ = './mask_former_metaspike.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmspike.ESpikeFormer',
        arch='espikeformer-l',
        neuron=dict(type='SFA', levels=4),
        out_indices=('stem', 0, 1, 3),
        temporal_output='keep',
    ),
)
