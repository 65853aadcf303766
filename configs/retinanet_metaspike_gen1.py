# RetinaNet with Meta-SpikeFormer 15M (LIF, T = 5), spiking from end to end, on GEN1; scored by the protocol of Perot et al.
# No recipe is published for it: steps and schedule are those of Cordone et al. (arXiv 2205.04339).
_base_ = [
    './_base_/models/retinanet_spiking_fpn.py',
    './_base_/datasets/gen1.py',
    './_base_/schedules/events_adamw_50e.py',
    './_base_/runtime_mmdet.py',
]

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

model = dict(
    data_preprocessor=dict(_delete_=True, **_base_.data_preprocessor),
    backbone=dict(T=_base_.T, in_channels=4),
    bbox_head=dict(num_classes=2),
)
default_hooks = dict(checkpoint=dict(save_best='perot/AP'))
