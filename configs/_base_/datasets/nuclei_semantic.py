# Semantic labels of one's own as PNGs, with nuclei in microscopy photos as the example:
#   data/nuclei/{train,val}/*.png, data/nuclei/semantic/{train,val}/*.png
# A label image has 0 where nothing is to be learned, and 1, 2, … for the classes in order. For other data change metainfo (and
# num_classes in the model), and pass --data-root.
dataset_type = 'BaseSegDataset'
data_root = 'data/nuclei/'
metainfo = dict(classes=('background', 'nucleus'), palette=[(0, 0, 0), (220, 20, 60)])

crop_size = (128, 128)
# Half of the photos are dark (fluorescence, mean below 20 of 255): the range is stretched and dark tones are spread.
contrast = [dict(type='Rerange'), dict(type='AdjustGamma', gamma=2.0)]
train_pipeline = [
    dict(type='mmspike.LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    *contrast,
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    # without prefix: the host's inferencer looks for this name
    dict(type='LoadImageFromFile'),
    *contrast,
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
tta_pipeline = [
    dict(type='mmspike.LoadImageFromFile'),
    *contrast,
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='RandomFlip', prob=p, direction='horizontal') for p in (0.0, 1.0)],
            [dict(type='LoadAnnotations')],
            [dict(type='PackSegInputs')],
        ],
    ),
]

train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=metainfo,
        reduce_zero_label=True,
        img_suffix='.png',
        seg_map_suffix='.png',
        data_prefix=dict(img_path='train', seg_map_path='semantic/train'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=metainfo,
        reduce_zero_label=True,
        img_suffix='.png',
        seg_map_suffix='.png',
        data_prefix=dict(img_path='val', seg_map_path='semantic/val'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
