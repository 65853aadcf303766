# Drawn recordings of discs, squares and triangles that move, in the layout of GEN1, 128 x 96 px:
#   mmspike moving-shapes data/moving_shapes --layout gen1 --number 40 8 8 --seconds 4
# Each sample is the 100 ms before a labelled time, in four steps.
dataset_type = 'mmspike.Gen1'
data_root = 'data/moving_shapes/'
metainfo = dict(classes=('disc', 'square', 'triangle'), palette=[(220, 20, 60), (0, 160, 230), (60, 180, 75)])
T = 4
shared = dict(
    type=dataset_type, data_root=data_root, metainfo=metainfo, sensor_size=(96, 128), samples='windows', window=100_000
)
data_preprocessor = dict(type='mmspike.EventDetDataPreprocessor', pad_size_divisor=32)

train_pipeline = [
    dict(type='mmspike.LoadEventWindow'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='mmspike.DropHotPixels', factor=20.0),
    dict(type='mmspike.RandomEventFlip', prob=0.5),
    dict(type='mmspike.RandomEventFlip', prob=0.5, direction='vertical'),
    dict(type='mmspike.RandomEventZoom', zoom_in=(1.0, 1.2), zoom_out=(1.0, 1.2), weights=(1.0, 1.0), prob=0.5),
    dict(type='mmspike.EventsToFrames', T=T, by='time'),
    dict(type='mmspike.PackEventDetInputs'),
]
test_pipeline = [
    dict(type='mmspike.LoadEventWindow'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='mmspike.DropHotPixels', factor=20.0),
    dict(type='mmspike.EventsToFrames', T=T, by='time'),
    dict(type='mmspike.PackEventDetInputs'),
]

train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(**shared, split='train', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**shared, split='val', test_mode=True, pipeline=test_pipeline),
)
test_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**shared, split='test', test_mode=True, pipeline=test_pipeline),
)
val_evaluator = dict(type='mmspike.PropheseeMetric', protocol='perot')
test_evaluator = val_evaluator
