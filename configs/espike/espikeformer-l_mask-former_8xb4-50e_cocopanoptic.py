# Spiking mask transformer with E-SpikeFormer 19M (D = 4): panoptic segmentation of COCO.
_base_ = [
    '../_base_/models/mask_former_espike_panoptic.py',
    '../_base_/datasets/coco_panoptic.py',
    '../_base_/schedules/mask_former_adamw_50e.py',
    '../_base_/runtime_mmdet.py',
]

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)
