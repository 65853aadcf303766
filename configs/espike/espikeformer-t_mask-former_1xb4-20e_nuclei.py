# Spiking mask transformer with a small E-SpikeFormer (D = 4): instances, learned from scratch on 100 images on a CPU.
_base_ = [
    '../_base_/models/mask_former_espike_panoptic.py',
    '../_base_/datasets/nuclei_instance_augmented.py',
    '../_base_/schedules/nuclei_adamw_24e.py',
    '../_base_/runtime_mmdet.py',
]

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

model = dict(
    # that of mask_rcnn_espike_nuclei.py
    backbone=dict(arch=dict(_delete_=True, dims=(32, 64, 96, 128), depths=(1, 1, 2, 3, 1)), out_indices=(0, 1, 3)),
    panoptic_head=dict(
        in_channels=[32, 64, 128],
        num_things_classes=1,
        num_stuff_classes=0,
        network=dict(
            channels=64,
            num_queries=100,
            encoder_layers=2,
            groups=8,
            dense=True,
            places=True,
            decoder_layers=3,
            num_pixels=[16 * 16, 32 * 32, 64 * 64],
            num_heads=4,
            decoder_channels=256,
        ),
        # of 40 nuclei an image at its size the losses would take most of the time
        full_size_losses=False,
        # A nucleus is one pixel in 300: with the published weights all masks are empty after four steps.
        loss_mask=dict(type='mmdet.FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=10.0),
        loss_dice=dict(type='mmdet.DiceLoss', use_sigmoid=True, activate=True, naive_dice=True, eps=1.0, loss_weight=5.0),
        train_cfg=dict(
            assigner=dict(
                type='mmdet.HungarianAssigner',
                match_costs=[
                    dict(type='mmdet.ClassificationCost', weight=2.0),
                    dict(type='mmdet.FocalLossCost', weight=10.0, binary_input=True),
                    dict(type='mmdet.DiceCost', weight=5.0, pred_act=True, eps=1.0),
                ],
            )
        ),
    ),
    panoptic_fusion_head=dict(num_things_classes=1, num_stuff_classes=0),
    test_cfg=dict(panoptic_on=False, instance_on=True),
)

# As long as mask_rcnn_espike_nuclei.py takes.
train_cfg = dict(max_epochs=20, val_interval=10)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=True, begin=0, end=20, convert_to_iter_based=True),
]
default_hooks = dict(logger=dict(interval=25), checkpoint=dict(max_keep_ckpts=3))
