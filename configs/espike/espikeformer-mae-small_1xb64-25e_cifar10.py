# The classifier of espikeformer-mae-small_pretrain_1xb64-60e_cifar10.py: from scratch as it is, fine-tuned with
#   --cfg-options load_from=CHECKPOINT
_base_ = '../espike_cifar10.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmspike.ESpikeFormerLarge',
        arch=dict(dims=(16, 32, 96), depths=(1, 1, 2, 4), num_heads=4),
        strides=(2, 1, 2, 1),
        neuron=dict(type='SFA', levels=4),
        drop_path_rate=0.1,
        out_indices=(2,),
        temporal_output='keep',
    ),
    head=dict(in_channels=96),
)
