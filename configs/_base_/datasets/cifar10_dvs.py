# CIFAR10-DVS as published: data/cifar10_dvs/<class>/cifar10_<class>_<number>.aedat, numbers 0 to 99 to test; 128 x 128 px
dataset_type = 'mmspike.CIFAR10DVS'
data_root = 'data/cifar10_dvs/'
T = 16
data_preprocessor = dict(type='mmspike.EventDataPreprocessor', num_classes=10)

train_pipeline = [
    dict(type='mmspike.LoadEvents'),
    dict(type='mmspike.RandomEventAffine', degrees=15, translate=0.08, scale=(0.9, 1.1), shear=8),
    dict(type='mmspike.RandomEventDrop', ratio=(0.1, 0.4), prob=0.5),
    dict(type='mmspike.EventsToFrames', T=T, by='count'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='mmspike.PackEvents'),
]
test_pipeline = [
    dict(type='mmspike.LoadEvents'),
    dict(type='mmspike.EventsToFrames', T=T, by='count'),
    dict(type='mmspike.PackEvents'),
]

train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type=dataset_type, data_root=data_root, share=(0.1, 1.0), pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type=dataset_type, data_root=data_root, share=(0.0, 0.1), pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator
