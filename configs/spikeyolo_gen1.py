# SpikeYOLO of size s (I-LIF, D = 4) on GEN1 with five steps of 20 ms and two parts each; scored by the protocol of Perot et al.
# The published recipe for GEN1 (T = 2, 250 ms, last polarity, no augmentation, best epoch of the test split) is another one.
_base_ = [
    './_base_/models/spikeyolo_s.py',
    './_base_/datasets/gen1.py',
    './_base_/schedules/events_adamw_50e.py',
    './_base_/runtime_mmdet.py',
]

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

model = dict(
    data_preprocessor=dict(_delete_=True, **_base_.data_preprocessor),
    backbone=dict(T=_base_.T, in_channels=4),
    bbox_head=dict(num_classes=2),
    test_cfg=dict(max_per_img=100),
)
default_hooks = dict(checkpoint=dict(save_best='perot/AP'))
