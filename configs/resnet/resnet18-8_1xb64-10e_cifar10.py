# An ordinary ResNet-18 of 8 base channels for images of 32 px in class folders, from scratch on a CPU: to be converted.
_base_ = ['../_base_/datasets/cifar10_folders.py', '../_base_/runtime_mmpretrain.py']

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

model = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet_CIFAR', depth=18, stem_channels=8, base_channels=8, out_indices=(3,), style='pytorch'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=64, loss=dict(type='CrossEntropyLoss')),
)

# 79 iterations an epoch
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=10, val_interval=5)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05))
param_scheduler = [dict(type='OneCycleLR', eta_max=4e-3, total_steps=790, by_epoch=False)]
auto_scale_lr = dict(enable=False, base_batch_size=64)
randomness = dict(seed=0)
