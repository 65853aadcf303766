# SpikeYOLO of size s (23.2 M): one stage, spiking from end to end. Every weight but the first convolution's reads integer
# spikes of I-LIF neurons, 0 to 4 a time step. Images are scaled to 0 to 1.
neuron = dict(type='ILIF', levels=4)
model = dict(
    type='SingleStageDetector',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[0.0] * 3,
        std=[255.0] * 3,
        bgr_to_rgb=True,
        pad_value=114 / 255,  # images are padded when they have been scaled
        pad_size_divisor=32,
    ),
    backbone=dict(type='mmspike.SpikingYOLOBackbone', arch='spikingyolo-s', T=1, neuron=neuron, temporal_output='keep'),
    neck=dict(type='mmspike.SpikingYOLOPAFPN', in_channels=[128, 256, 512], channels=128, neuron=neuron),
    bbox_head=dict(
        type='mmspike.SpikingYOLOHead',
        num_classes=80,
        in_channels=[128, 256, 512],
        strides=[8, 16, 32],
        neuron=neuron,
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=0.5),
        loss_bbox=dict(type='mmspike.CIoULoss', loss_weight=7.5),
        loss_dfl=dict(type='DistributionFocalLoss', loss_weight=1.5),
    ),
    train_cfg=dict(
        assigner=dict(type='TaskAlignedAssigner', topk=10, iou_calculator=dict(type='mmspike.CIoUOverlaps')),
        alpha=0.5,
        beta=6.0,
    ),
    test_cfg=dict(score_thr=0.001, nms_pre=30000, nms=dict(type='nms', iou_threshold=0.7), max_per_img=300),
)
