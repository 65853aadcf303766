# Semantic FPN with Meta-SpikeFormer 15M (LIF, T = 5), spiking from end to end, on DSEC-Semantic. No recipe is published for it:
# the schedule is that of ADE20K, shortened.
_base_ = [
    './_base_/models/fpn_metaspike.py',
    './_base_/datasets/dsec_semantic.py',
    './_base_/schedules/events_segmentation_adamw_40k.py',
    './_base_/runtime_mmseg.py',
]

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

model = dict(
    data_preprocessor=dict(_delete_=True, **_base_.data_preprocessor),
    backbone=dict(T=_base_.T, in_channels=2),
    decode_head=dict(num_classes=11, loss_decode=dict(avg_non_ignore=True)),
)
