# RetinaNet with Meta-SpikeFormer 15M (LIF, T = 1), spiking from end to end, on COCO. No recipe is published for it: this is
# the one of Mask R-CNN.
_base_ = [
    './_base_/models/retinanet_spiking_fpn.py',
    './_base_/datasets/coco_detection.py',
    './_base_/schedules/coco_adamw_1x.py',
    './_base_/runtime_mmdet.py',
]

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)
