# Semantic FPN with a small Meta-SpikeFormer (LIF, T = 4), spiking from end to end, on drawn recordings of an event camera, from
# scratch on a CPU in minutes.
_base_ = [
    './_base_/models/fpn_metaspike.py',
    './_base_/datasets/moving_shapes_semantic.py',
    './_base_/runtime_mmseg.py',
]

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

neuron = dict(type='LIF', tau=2.0, v_threshold=0.5)
model = dict(
    data_preprocessor=dict(_delete_=True, **_base_.data_preprocessor),
    backbone=dict(
        arch=dict(_delete_=True, dims=(16, 32, 48, 64), depths=(1, 1, 1, 1, 1)),
        # not of stride 2: time
        out_indices=(0, 1, 3),
        T=_base_.T,
        in_channels=2,
        neuron=neuron,
    ),
    neck=dict(in_channels=[16, 32, 64], out_channels=32, num_outs=3, neuron=neuron),
    decode_head=dict(
        in_channels=[32, 32, 32],
        in_index=[0, 1, 2],
        feature_strides=[4, 8, 16],
        channels=32,
        num_classes=4,
        neuron=neuron,
        # seven pixels in eight are background; mmseg 1.4.2 fails with weights of classes and avg_non_ignore=True
        loss_decode=dict(class_weight=[0.4, 1.0, 1.0, 1.0]),
    ),
)

max_iters = 700
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=350)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=3e-3, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=10.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=50, end=max_iters),
]
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=350, max_keep_ckpts=1))
randomness = dict(seed=0)
