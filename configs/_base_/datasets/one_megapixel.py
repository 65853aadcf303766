# 1 Mpx: data/1mpx/{train,val,test}/*_td.dat and *_bbox.npy, 1280 x 720 px, pedestrians, two-wheelers and cars. As RVT has it:
# every second pixel, labels about ten times a second, the 50 ms before each, flips and zooms; here in five steps of two parts
# (a voxel cube), and boxes to train on with sides of at least 5 px.
dataset_type = 'mmspike.OneMegapixel'
data_root = 'data/1mpx/'
T = 5
samples = dict(samples='windows', window=50_000, grid=100_000)
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
    dataset=dict(type=dataset_type, data_root=data_root, split='train', **samples, min_side=5, pipeline=train_pipeline),
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
