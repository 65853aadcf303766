# GEN1: data/gen1/{train,val,test}/*_td.dat and *_bbox.npy, 304 x 240 px, cars and pedestrians. Each sample is the 100 ms
# before a labelled time, in five steps of two parts (a voxel cube). Labels to train on are those of the usual protocol.
# Drawn recordings of another size in the same layout take sensor_size and metainfo.
dataset_type = 'mmspike.Gen1'
data_root = 'data/gen1/'
T = 5
samples = dict(samples='windows', window=100_000)
data_preprocessor = dict(type='mmspike.EventDetDataPreprocessor', pad_size_divisor=32)

train_pipeline = [
    dict(type='mmspike.LoadEventWindow'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='mmspike.RandomEventFlip', prob=0.5),
    dict(type='mmspike.RandomEventZoom', prob=0.8),
    dict(type='mmspike.EventsToVoxelCube', T=T, micro_bins=2),
    dict(type='mmspike.PackEventDetInputs'),
]
test_pipeline = [
    dict(type='mmspike.LoadEventWindow'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='mmspike.EventsToVoxelCube', T=T, micro_bins=2),
    dict(type='mmspike.PackEventDetInputs'),
]

train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        split='train',
        **samples,
        min_diagonal=30,
        min_side=10,
        max_width=0.9,
        pipeline=train_pipeline,
    ),
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
val_evaluator = dict(type='mmspike.PropheseeMetric', protocol='perot')
test_evaluator = val_evaluator
