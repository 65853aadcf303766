# The classifier of espikeformer-mae-small_pretrain_1xb64-30e_cifar10.py: from scratch as it is, fine-tuned with
#   --cfg-options load_from=CHECKPOINT
_base_ = '../espike_cifar10.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmspike.ESpikeFormerLarge',
        arch=dict(dims=(16, 32, 64), depths=(1, 1, 1, 2), num_heads=4, rep_conv=False),
        strides=(2, 2, 1, 1),
        neuron=dict(type='SFA', levels=4),
        out_indices=(2,),
        temporal_output='keep',
    ),
    head=dict(in_channels=64),
)

train_cfg = dict(max_epochs=15, val_interval=5)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=0, end=15, convert_to_iter_based=True),
]
