# E-SpikeFormer-t (D = 4) with spiking neck and heads, learned from scratch on 100 images on a CPU.
_base_ = [
    '../_base_/models/mask_rcnn_spiking_small_fpn.py',
    '../_base_/datasets/nuclei_instance.py',
    '../_base_/schedules/nuclei_adamw_24e.py',
    '../_base_/runtime_mmdet.py',
]

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmspike.ESpikeFormer',
        arch='espikeformer-t',
        neuron=dict(type='SFA', levels=4),
        out_indices=(0, 1, 3),
        temporal_output='keep',
    ),
)

default_hooks = dict(logger=dict(interval=25), checkpoint=dict(max_keep_ckpts=3))
# the seed of the run in docs/benchmarks.md
randomness = dict(seed=1425381373)
