# HAR-DVS, frames: data/har_dvs/{train,test}_label.txt and data/har_dvs/rawframes/action_001/dvSave-…/*.png; 260 x 346 px.
# For the compact event files (.npz): suffix='.npz', and LoadEvents and EventsToFrames instead of LoadEventFrames.
dataset_type = 'mmspike.HARDVS'
data_root = 'data/har_dvs/'
T = 8
data_preprocessor = dict(type='mmspike.EventDataPreprocessor', num_classes=300)

train_pipeline = [
    dict(type='mmspike.LoadEventFrames', T=T, random=True),
    dict(type='Resize', scale=(256, 256)),
    dict(type='RandomCrop', crop_size=224),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='mmspike.PackEvents'),
]
test_pipeline = [
    dict(type='mmspike.LoadEventFrames', T=T),
    dict(type='Resize', scale=(256, 256)),
    dict(type='CenterCrop', crop_size=224),
    dict(type='mmspike.PackEvents'),
]

train_dataloader = dict(
    batch_size=16,
    num_workers=8,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='train_label.txt',
        data_prefix='rawframes',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=8,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='test_label.txt',
        data_prefix='rawframes',
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_evaluator = val_evaluator
