# Spiking mask transformer on Meta-SpikeFormer 15M with integer spikes (T = 1, D = 4 in all parts), for mmdet: panoptic
# segmentation, and instances with num_stuff_classes=0, panoptic_on=False, instance_on=True. Masks have stride 4.
neuron = dict(type='SFA', levels=4)  # NI-LIF at T = 1
model = dict(
    type='MaskFormer',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
        pad_mask=True,
        mask_pad_value=0,
        pad_seg=True,
        seg_pad_value=255,
    ),
    backbone=dict(
        type='mmspike.MetaSpikeFormer',
        arch='metaspikeformer-15m',
        T=1,
        neuron=neuron,
        # of the two stages of stride 16 the last
        out_indices=(0, 1, 3),
        temporal_output='keep',
    ),
    panoptic_head=dict(
        type='mmspike.SpikingPanopticHead',
        in_channels=[64, 128, 360],
        feature_strides=[4, 8, 16],
        num_things_classes=80,
        num_stuff_classes=53,
        neuron=neuron,
    ),
    panoptic_fusion_head=dict(type='MaskFormerFusionHead', num_things_classes=80, num_stuff_classes=53),
    train_cfg=dict(),
    test_cfg=dict(panoptic_on=True, semantic_on=False, instance_on=False, max_per_image=100),
)
