# N-Caltech101: data/n_caltech101/<class>/*.bin, the last tenth of every class to test; at most 180 x 240 px
dataset_type = 'mmspike.NCaltech101'
data_root = 'data/n_caltech101/'
T = 10
data_preprocessor = dict(type='mmspike.EventDataPreprocessor', num_classes=101)

train_pipeline = [
    dict(type='mmspike.LoadEvents'),
    dict(type='mmspike.RandomEventAffine', degrees=10, translate=0.08, scale=(0.9, 1.1)),
    dict(type='mmspike.RandomEventDrop', ratio=(0.1, 0.4), prob=0.5),
    dict(type='mmspike.EventsToFrames', T=T, by='time'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='mmspike.PackEvents'),
]
test_pipeline = [
    dict(type='mmspike.LoadEvents'),
    dict(type='mmspike.EventsToFrames', T=T, by='time'),
    dict(type='mmspike.PackEvents'),
]

train_dataloader = dict(
    batch_size=32,
    num_workers=4,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type=dataset_type, data_root=data_root, share=(0.0, 0.9), pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=4,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type=dataset_type, data_root=data_root, share=(0.9, 1.0), pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator
