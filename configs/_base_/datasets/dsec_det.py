# DSEC-Det: data/dsec/{train,test}/<recording>/…, see docs/events.md; 640 x 480 px, cars and pedestrians as DAGr has them. Each
# sample is the 50 ms before a labelled time, of every second pixel, in five steps of two parts (a voxel cube).
dataset_type = 'mmspike.DSECDet'
data_root = 'data/dsec/'
T = 5
samples = dict(samples='windows', window=50_000, two_classes=True)
data_preprocessor = dict(type='mmspike.EventDetDataPreprocessor', pad_size_divisor=32)

train_pipeline = [
    dict(type='mmspike.LoadEventWindow'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='mmspike.DownscaleEvents', factor=2),
    dict(type='mmspike.RandomEventFlip', prob=0.5),
    dict(type='mmspike.RandomEventZoom', prob=0.8),
    dict(type='mmspike.EventsToVoxelCube', T=T, micro_bins=2),
    dict(type='mmspike.PackEventDetInputs'),
]
test_pipeline = [
    dict(type='mmspike.LoadEventWindow'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='mmspike.DownscaleEvents', factor=2),
    dict(type='mmspike.EventsToVoxelCube', T=T, micro_bins=2),
    dict(type='mmspike.PackEventDetInputs'),
]

train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type=dataset_type, data_root=data_root, split='train', **samples, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type=dataset_type, data_root=data_root, split='val', **samples, test_mode=True, pipeline=test_pipeline),
)
test_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type=dataset_type, data_root=data_root, split='test', **samples, test_mode=True, pipeline=test_pipeline),
)
val_evaluator = dict(type='mmspike.PropheseeMetric', protocol='dagr')
test_evaluator = val_evaluator
