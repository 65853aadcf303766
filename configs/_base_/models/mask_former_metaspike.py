# Spiking mask transformer (Spike2Former) on Meta-SpikeFormer 15M with integer spikes (T = 1, D = 4 in all parts), for mmseg.
# num_classes is to be set in decode_head. Masks have stride 2, as published; stride 4 takes a quarter of their memory:
#   backbone.out_indices=(0, 1, 3), decode_head.in_channels=[64, 128, 360], decode_head.feature_strides=[4, 8, 16]
neuron = dict(type='SFA', levels=4)  # NI-LIF at T = 1
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
        test_cfg=dict(size_divisor=32),
    ),
    backbone=dict(
        type='mmspike.MetaSpikeFormer',
        arch='metaspikeformer-15m',
        T=1,
        neuron=neuron,
        # of the two stages of stride 16 the last
        out_indices=('stem', 0, 1, 3),
        temporal_output='keep',
    ),
    decode_head=dict(
        type='mmspike.SpikingMaskFormerHead',
        in_channels=[32, 64, 128, 360],
        feature_strides=[2, 4, 8, 16],
        num_classes=150,
        neuron=neuron,
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
