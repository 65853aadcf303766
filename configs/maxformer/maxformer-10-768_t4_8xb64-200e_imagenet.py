_base_ = './maxformer-10-384_t4_8xb64-200e_imagenet.py'

model = dict(
    backbone=dict(arch='maxformer-10-768'),
    head=dict(in_channels=768),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=5, end=200, convert_to_iter_based=True),
]
