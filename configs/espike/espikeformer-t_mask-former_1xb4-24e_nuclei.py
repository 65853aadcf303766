# Spiking mask transformer with E-SpikeFormer-t (D = 4): instances, learned from scratch on 100 images on a CPU.
_base_ = [
    '../_base_/models/mask_former_espike_panoptic.py',
    '../_base_/datasets/nuclei_instance.py',
    '../_base_/schedules/nuclei_adamw_24e.py',
    '../_base_/runtime_mmdet.py',
]

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

model = dict(
    backbone=dict(arch='espikeformer-t', out_indices=(0, 1, 3)),
    panoptic_head=dict(
        in_channels=[24, 48, 128],
        num_things_classes=1,
        num_stuff_classes=0,
        network=dict(
            channels=64, num_queries=100, encoder_layers=2, groups=8, decoder_layers=3, num_heads=4, decoder_channels=256
        ),
    ),
    panoptic_fusion_head=dict(num_things_classes=1, num_stuff_classes=0),
    test_cfg=dict(panoptic_on=False, instance_on=True),
)

default_hooks = dict(logger=dict(interval=25), checkpoint=dict(max_keep_ckpts=3))
