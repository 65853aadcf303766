# N-MNIST: data/nmnist/Train/<digit>/*.bin, data/nmnist/Test/<digit>/*.bin; recordings of 0.3 s, 34 x 34 px
dataset_type = 'mmspike.NMNIST'
data_root = 'data/nmnist/'
T = 4
data_preprocessor = dict(type='mmspike.EventDataPreprocessor', num_classes=10)

train_pipeline = [
    dict(type='mmspike.LoadEvents'),
    dict(type='mmspike.RandomEventAffine', degrees=12, translate=0.08, scale=(0.85, 1.15), shear=8),
    dict(type='mmspike.RandomEventDrop', ratio=(0.1, 0.4), prob=0.5),
    dict(type='mmspike.EventsToFrames', T=T, by='count'),
    dict(type='mmspike.PackEvents'),
]
test_pipeline = [
    dict(type='mmspike.LoadEvents'),
    dict(type='mmspike.EventsToFrames', T=T, by='count'),
    dict(type='mmspike.PackEvents'),
]

train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type=dataset_type, data_root=data_root, data_prefix='Train', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=100,
    num_workers=0,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type=dataset_type, data_root=data_root, data_prefix='Test', pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator
