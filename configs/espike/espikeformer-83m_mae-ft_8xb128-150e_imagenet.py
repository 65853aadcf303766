# E-SpikeFormer 83M on ImageNet from masked pretraining: 8 GPUs x 128. The pretrained encoder:
#   --cfg-options load_from=CHECKPOINT of espikeformer-83m_mae_8xb256-200e_imagenet.py, or of the authors, converted.
# Layer scale begins at 1 then, which leaves the pretrained blocks as they are, and at 1e-6 without a checkpoint.
_base_ = [
    '../_base_/datasets/imagenet_augmented.py',
    '../_base_/schedules/imagenet_lamb_200e.py',
    '../_base_/runtime_mmpretrain.py',
]

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmspike.ESpikeFormerLarge',
        arch='espikeformer-83m',
        neuron=dict(type='SFA', levels=4),
        layer_scale=1e-6,
        drop_path_rate=0.1,
        out_indices=(2,),
        temporal_output='keep',
    ),
    head=dict(
        type='mmspike.SpikingLinearClsHead',
        num_classes=1000,
        in_channels=512,
        # counts, not fractions, before the classifier
        neuron=dict(type='SFA', levels=4, divisor=1),
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)

train_dataloader = dict(batch_size=128)

train_cfg = dict(max_epochs=150)
# 6e-4 per 256 behind the last block, 0.75 times as much in each block before, 10 epochs of warm-up
optim_wrapper = dict(
    constructor='LearningRateDecayOptimWrapperConstructor',
    optimizer=dict(lr=2.4e-3),
    paramwise_cfg=dict(layer_decay_rate=0.75),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=10, end=150, convert_to_iter_based=True),
]
