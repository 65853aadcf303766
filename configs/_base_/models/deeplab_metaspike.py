# Spiking-DeepLab on the last stage of Meta-SpikeFormer 15M (LIF, T = 4), spiking from end to end. num_classes is to be set in
# decode_head.
_base_ = './fpn_metaspike.py'

model = dict(
    backbone=dict(out_indices=(3,)),
    neck=None,
    decode_head=dict(
        _delete_=True,
        type='mmspike.SpikingDeepLabHead',
        in_channels=360,
        in_index=0,
        channels=1024,
        dilation=12,
        num_classes=150,
        norm_cfg=dict(type='BN'),
        neuron=dict(type='LIF', tau=2.0),
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
)
