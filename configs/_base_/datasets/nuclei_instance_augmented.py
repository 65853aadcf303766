# nuclei_instance.py with grey values stretched, and images turned, scaled and cropped in training.
_base_ = './nuclei_instance.py'

scale = _base_.scale
train_pipeline = [
    dict(type='mmspike.LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    # half of the photos are dark (fluorescence, mean below 20 of 255)
    dict(type='AutoContrast', prob=1.0),
    dict(type='RandomResize', scale=scale, ratio_range=(0.8, 1.25), keep_ratio=True),
    dict(type='RandomCrop', crop_size=scale),
    dict(type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='mmspike.LoadImageFromFile'),
    dict(type='AutoContrast', prob=1.0),
    dict(type='Resize', scale=scale, keep_ratio=True),
    # ground truth for pictures
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
