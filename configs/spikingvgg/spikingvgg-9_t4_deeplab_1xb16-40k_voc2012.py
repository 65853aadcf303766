# Spiking-DeepLab on VGG-9 (LIF, T = 4) on PASCAL VOC 2012 at 64 px, spiking from end to end. Optimiser, batch, steps and image
# size as published; neuron, T, flips and the list of images are not.
_base_ = ['../_base_/datasets/voc2012.py', '../_base_/runtime_mmseg.py']

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

neuron = dict(type='LIF', tau=2.0)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(64, 64),
    ),
    backbone=dict(
        type='mmspike.SpikingVGG',
        arch='spikingvgg-9-deeplab',
        T=4,
        neuron=neuron,
        out_indices=(-1,),
        temporal_output='keep',
    ),
    decode_head=dict(
        type='mmspike.SpikingDeepLabHead',
        in_channels=256,
        in_index=0,
        channels=1024,
        dilation=12,
        num_classes=21,
        norm_cfg=dict(type='BN'),
        neuron=neuron,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)

train_cfg = dict(type='IterBasedTrainLoop', max_iters=40000, val_interval=4000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=1e-3, momentum=0.9, weight_decay=5e-4))
param_scheduler = [dict(type='MultiStepLR', by_epoch=False, milestones=[20000, 32000], gamma=0.1)]
auto_scale_lr = dict(enable=False, base_batch_size=16)
