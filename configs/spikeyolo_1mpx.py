# SpikeYOLO of size s (I-LIF, D = 4) on 1 Mpx; scored by the protocol of Perot et al. No recipe is published for it: data are
# RVT's, the schedule is that of Cordone et al. on GEN1.
_base_ = [
    './_base_/models/spikeyolo_s.py',
    './_base_/datasets/one_megapixel.py',
    './_base_/schedules/events_adamw_50e.py',
    './_base_/runtime_mmdet.py',
]

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

model = dict(
    data_preprocessor=dict(_delete_=True, **_base_.data_preprocessor),
    backbone=dict(T=_base_.T, in_channels=4),
    bbox_head=dict(num_classes=3),
    test_cfg=dict(max_per_img=100),
)
default_hooks = dict(checkpoint=dict(save_best='perot/AP'))
