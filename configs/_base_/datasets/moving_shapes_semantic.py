# Drawn recordings of discs, squares and triangles that move, in the layout of DSEC-Semantic, 128 x 96 px with labels of
# the upper 88 rows:
#   mmspike moving-shapes data/moving_shapes_semantic --layout dsec_semantic --number 8 0 3 --seconds 20 --scene 2 \
#     --label-period 100000
# Other shapes every two seconds: the layout has names for eleven recordings alone. Each sample is the 100 ms before a labelled
# time, in four steps.
dataset_type = 'mmspike.DSECSemantic'
data_root = 'data/moving_shapes_semantic/'
metainfo = dict(
    classes=('background', 'disc', 'square', 'triangle'),
    palette=[(0, 0, 0), (220, 20, 60), (0, 160, 230), (60, 180, 75)],
)
T = 4
shared = dict(
    type=dataset_type,
    data_root=data_root,
    metainfo=metainfo,
    sensor_size=(96, 128),
    image_size=(88, 128),
    skip=0,
    samples='windows',
    window=100_000,
)
data_preprocessor = dict(type='mmspike.EventSegDataPreprocessor', size_divisor=32)

train_pipeline = [
    dict(type='mmspike.LoadEventWindow'),
    dict(type='mmspike.LoadEventSegMap'),
    dict(type='mmspike.DropHotPixels', factor=20.0),
    dict(type='mmspike.RandomEventFlip', prob=0.5),
    dict(type='mmspike.RandomEventAffine', degrees=180.0, translate=0.1, scale=(0.8, 1.25), prob=0.7),
    dict(type='mmspike.EventsToFrames', T=T, by='time'),
    dict(type='mmspike.PackEventSegInputs'),
]
test_pipeline = [
    dict(type='mmspike.LoadEventWindow'),
    dict(type='mmspike.LoadEventSegMap'),
    dict(type='mmspike.DropHotPixels', factor=20.0),
    dict(type='mmspike.EventsToFrames', T=T, by='time'),
    dict(type='mmspike.PackEventSegInputs'),
]

train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(**shared, split='train', every=1, pipeline=train_pipeline),
)
# every third label: time
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**shared, split='test', every=3, test_mode=True, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
