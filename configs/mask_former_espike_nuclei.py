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
        network=dict(
            channels=64, num_queries=20, encoder_layers=2, groups=8, decoder_layers=3, num_heads=4, decoder_channels=256
        ),
        neuron=dict(type='SFA', levels=4),
        norm_cfg=norm_cfg,
    ),
)

# fewer iterations than those of fpn_espike_nuclei.py, each of which takes less time
train_cfg = dict(max_iters=300, val_interval=150)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=30, end=300),
]
