# N-Caltech101 with a box for the thing of each recording: data/n_caltech101/{Caltech101,Caltech101_annotations}/<class>/*.bin,
# 100 classes. Each sample is a whole recording of 300 ms, in five steps of two parts (a voxel cube). No division is published:
# the last fifth of every class is tested on.
dataset_type = 'mmspike.NCaltech101Boxes'
data_root = 'data/n_caltech101/'
T = 5
samples = dict(samples='windows')
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
    dataset=dict(type=dataset_type, data_root=data_root, split='train', share=(0.0, 0.8), **samples, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        split='test',
        share=(0.8, 1.0),
        **samples,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmspike.PropheseeMetric', protocol='none')
test_evaluator = val_evaluator
