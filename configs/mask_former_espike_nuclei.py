# Spiking mask transformer with E-SpikeFormer-t (D = 4): semantic segmentation, learned from scratch on 100 images on a CPU.
_base_ = './fpn_espike_nuclei.py'

norm_cfg = dict(type='BN', momentum=0.05)
model = dict(
    neck=None,
    decode_head=dict(
        _delete_=True,
        type='mmspike.SpikingMaskFormerHead',
        in_channels=[12, 24, 48, 128],
        feature_strides=[2, 4, 8, 16],
        num_classes=2,
        # A class has one mask and a query of its own. Photos are dark on bright or bright on dark: where masks decide which
        # query is of which class, queries take what is bright, and see too little of the photo to name it. Classes decide.
        train_cfg=dict(
            assigner=dict(type='mmdet.HungarianAssigner', match_costs=[dict(type='mmdet.ClassificationCost', weight=1.0)])
        ),
        # nuclei rather than not, where it is unclear: dice has its best threshold below a half
        loss_dice=dict(type='mmdet.DiceLoss', use_sigmoid=True, activate=True, naive_dice=True, eps=1.0, loss_weight=3.0),
        # stride 2 is fine enough, and leaves time for more iterations
        full_size_losses=False,
        network=dict(
            channels=64,
            num_queries=2,
            encoder_layers=1,
            groups=8,
            dense=True,
            decoder_layers=2,
            num_levels=2,
            num_pixels=[8 * 8, 16 * 16],  # of a crop
            num_heads=4,
            decoder_channels=256,
        ),
        neuron=dict(type='SFA', levels=4),
        norm_cfg=norm_cfg,
    ),
)

# One photo in seven is bright, and of many colours: colours are changed, and dark photos become bright ones.
train_pipeline = [
    dict(type='mmspike.LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    *_base_.contrast,
    dict(type='RandomCrop', crop_size=_base_.crop_size),
    dict(type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='mmdet.Invert', prob=0.25),
    dict(type='PhotoMetricDistortion', hue_delta=8),
    dict(type='PackSegInputs'),
]

# As long as fpn_espike_nuclei.py takes. Many steps of small batches learn more in that time than few of large ones.
train_dataloader = dict(batch_size=8, dataset=dict(pipeline=train_pipeline))
train_cfg = dict(max_iters=740, val_interval=740)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=30, end=740),
]
auto_scale_lr = dict(base_batch_size=8)
default_hooks = dict(checkpoint=dict(interval=740))
