# Semantic FPN that is spiking from end to end, with Meta-SpikeFormer 15M (LIF, T = 4). As published: 128 channels, batch norm
# after every convolution, levels of strides 2, 4, 8 and 16. num_classes is to be set in decode_head.
neuron = dict(type='LIF', tau=2.0)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(512, 512),
    ),
    backbone=dict(
        type='mmspike.MetaSpikeFormer',
        arch='metaspikeformer-15m',
        T=4,
        neuron=neuron,
        # of the two stages of stride 16 the last
        out_indices=('stem', 0, 1, 3),
        temporal_output='keep',
    ),
    neck=dict(
        type='mmspike.SpikingFPN',
        in_channels=[32, 64, 128, 360],
        out_channels=128,
        num_outs=4,
        norm_cfg=dict(type='BN'),
        neuron=neuron,
    ),
    decode_head=dict(
        type='mmspike.SpikingFPNHead',
        in_channels=[128, 128, 128, 128],
        in_index=[0, 1, 2, 3],
        feature_strides=[2, 4, 8, 16],
        channels=128,
        num_classes=150,
        norm_cfg=dict(type='BN'),
        neuron=neuron,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
