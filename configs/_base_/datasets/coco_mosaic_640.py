# COCO 2017 boxes at 640 px: mosaics of four images, moved and scaled, with other colours; the last epochs see images alone.
#   data/coco/annotations/instances_{train,val}2017.json, data/coco/train2017/, data/coco/val2017/
# A subset in the same layout is used with --data-root.
dataset_type = 'CocoDataset'
data_root = 'data/coco/'

scale = (640, 640)
grey = 114
# mmdet's jitter adds to hue, saturation and value (of 180, 255, 255); the published one multiplies by 1 ± 0.015, 0.7, 0.4
colours_and_flip = [
    dict(type='YOLOXHSVRandomAug', hue_delta=3, saturation_delta=70, value_delta=45),
    dict(type='RandomFlip', prob=0.5),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1), keep_empty=False),
    dict(type='PackDetInputs'),
]
move = dict(
    type='RandomAffine',
    max_rotate_degree=0.0,
    max_shear_degree=0.0,
    max_translate_ratio=0.1,
    scaling_ratio_range=(0.5, 1.5),
    border_val=(grey,) * 3,
)
letterbox = [
    dict(type='Resize', scale=scale, keep_ratio=True),
    # mmdet's padding is below and right of the image, the published one on both sides
    dict(type='Pad', size=scale, pad_val=dict(img=(grey,) * 3)),
]
train_pipeline = [
    dict(type='mmspike.LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='CachedMosaic', img_scale=scale, pad_val=float(grey), max_cached_images=40),
    dict(**move, border=(-scale[0] // 2, -scale[1] // 2)),
    *colours_and_flip,
]
last_pipeline = [
    dict(type='mmspike.LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    *letterbox,
    move,
    *colours_and_flip,
]
test_pipeline = [
    dict(type='mmspike.LoadImageFromFile'),
    *letterbox,
    # ground truth for pictures
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]

train_dataloader = dict(
    batch_size=10,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017/'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='CocoMetric', ann_file=data_root + 'annotations/instances_val2017.json', metric='bbox')
test_evaluator = val_evaluator
