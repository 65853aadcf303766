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
        # A class has one mask. Photos are dark on bright or bright on dark: where masks decide which query is of which class,
        # queries take what is bright, and see too little of the photo to name it; so the classes decide.
        train_cfg=dict(
            assigner=dict(
                type='mmdet.HungarianAssigner',
                match_costs=[
                    dict(type='mmdet.ClassificationCost', weight=10.0),
                    dict(type='mmdet.FocalLossCost', weight=20.0, binary_input=True),
                    dict(type='mmdet.DiceCost', weight=1.0, pred_act=True, eps=1.0),
                ],
            )
        ),
        network=dict(
            channels=64, num_queries=2, encoder_layers=2, groups=8, decoder_layers=3, num_heads=4, decoder_channels=256
        ),
        neuron=dict(type='SFA', levels=4),
        norm_cfg=norm_cfg,
    ),
)

# As long as fpn_espike_nuclei.py takes, whose iterations are shorter.
train_cfg = dict(max_iters=330, val_interval=165)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=30, end=330),
]
