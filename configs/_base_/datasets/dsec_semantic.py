# DSEC-Semantic: data/dsec/{train,test}/<recording>/…, see docs/events.md; 640 x 440 px, 11 classes. Each sample is the 50 ms
# before a labelled time, in five steps.
dataset_type = 'mmspike.DSECSemantic'
data_root = 'data/dsec/'
T = 5
samples = dict(samples='windows', window=50_000)
data_preprocessor = dict(type='mmspike.EventSegDataPreprocessor', size_divisor=32)

train_pipeline = [
    dict(type='mmspike.LoadEventWindow'),
    dict(type='mmspike.LoadEventSegMap'),
    dict(type='mmspike.RandomEventFlip', prob=0.5),
    dict(type='mmspike.EventsToFrames', T=T, by='time'),
    dict(type='mmspike.PackEventSegInputs'),
]
test_pipeline = [
    dict(type='mmspike.LoadEventWindow'),
    dict(type='mmspike.LoadEventSegMap'),
    dict(type='mmspike.EventsToFrames', T=T, by='time'),
    dict(type='mmspike.PackEventSegInputs'),
]

train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(type=dataset_type, data_root=data_root, split='train', **samples, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type=dataset_type, data_root=data_root, split='test', **samples, test_mode=True, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
