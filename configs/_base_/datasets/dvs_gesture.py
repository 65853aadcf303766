# DVS128 Gesture as published: data/dvs_gesture/{trials_to_train,trials_to_test}.txt, *.aedat, *_labels.csv; 128 x 128 px
dataset_type = 'mmspike.DVS128Gesture'
data_root = 'data/dvs_gesture/'
T = 16
data_preprocessor = dict(type='mmspike.EventDataPreprocessor', num_classes=11)

# no flip: left and right are classes
train_pipeline = [
    dict(type='mmspike.LoadEvents'),
    dict(type='mmspike.RandomEventAffine', degrees=10, translate=0.08, scale=(0.9, 1.1)),
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
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type=dataset_type, data_root=data_root, ann_file='trials_to_train.txt', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type=dataset_type, data_root=data_root, ann_file='trials_to_test.txt', pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator
