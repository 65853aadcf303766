# The demo (`make demo`): a small Meta-SpikeFormer (LIF, T = 2) with mmdet's own neck and heads, learned from scratch on drawn
# shapes within minutes on a CPU.
_base_ = [
    './_base_/models/mask_rcnn_metaspike_small_fpn.py',
    './_base_/datasets/shapes_instance.py',
    './_base_/runtime_mmdet.py',
]

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

num_classes = 4
model = dict(
    # shallower still, for the sake of minutes
    backbone=dict(arch=dict(dims=(16, 48, 96, 128), depths=(1, 1, 1, 2, 1))),
    neck=dict(in_channels=[16, 48, 128]),
    roi_head=dict(bbox_head=dict(num_classes=num_classes), mask_head=dict(num_classes=num_classes)),
)

# 100 iterations an epoch. The high learning rate and the batch norm in the FPN make training from scratch work.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=4, val_interval=2)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='MultiStepLR', by_epoch=False, milestones=[300], gamma=0.1),
]
auto_scale_lr = dict(enable=False, base_batch_size=4)
