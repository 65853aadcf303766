# E-SpikeFormer-t (D = 4) with mmdet's own neck and heads, learned from scratch on 100 images on a CPU.
_base_ = './mask_rcnn_metaspike_nuclei.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmspike.ESpikeFormer',
        arch='espikeformer-t',
        neuron=dict(type='SFA', levels=4),
        out_indices=(0, 1, 3),
        temporal_output='mean',
    ),
)

train_cfg = dict(max_epochs=24)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='MultiStepLR', by_epoch=True, milestones=[18], gamma=0.1),
]
randomness = dict(seed=449175863)
