# RetinaNet that is spiking from end to end, with Meta-SpikeFormer 15M (LIF, T = 1). Neck and head read integer spikes of SFA
# neurons with D = 4 and divisor 1; every feature keeps its time axis.
neuron = dict(type='SFA', levels=4, divisor=1)
model = dict(
    type='RetinaNet',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type='mmspike.MetaSpikeFormer',
        arch='metaspikeformer-15m',
        T=1,
        neuron=dict(type='LIF', tau=2.0),
        # strides 8 and 16; of the two stages of stride 16 the last
        out_indices=(1, 3),
        temporal_output='keep',
    ),
    # strides 8 and 16 from the backbone; 32, 64 and 128 by strided convolutions on top
    neck=dict(type='mmspike.SpikingFPN', in_channels=[128, 360], out_channels=256, num_outs=5, neuron=neuron),
    bbox_head=dict(
        type='mmspike.SpikingRetinaHead',
        neuron=neuron,
        num_classes=80,
        in_channels=256,
        stacked_convs=4,
        feat_channels=256,
        anchor_generator=dict(
            type='AnchorGenerator',
            octave_base_scale=4,
            scales_per_octave=3,
            ratios=[0.5, 1.0, 2.0],
            strides=[8, 16, 32, 64, 128],
        ),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=[1.0] * 4),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type='L1Loss', loss_weight=1.0),
    ),
    train_cfg=dict(
        assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0, ignore_iof_thr=-1),
        # the focal loss sees all anchors
        sampler=dict(type='PseudoSampler'),
        allowed_border=-1,
        pos_weight=-1,
        debug=False,
    ),
    test_cfg=dict(nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=100),
)
