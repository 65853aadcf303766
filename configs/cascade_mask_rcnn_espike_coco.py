# Cascade Mask R-CNN with E-SpikeFormer-l (19 M, D = 4), spiking from end to end, on COCO, the published recipe: box heads of
# four convolutions with batch norm and one FC, GIoU loss x 10 on decoded boxes, 36 epochs.
_base_ = './espike/espikeformer-l_mask-rcnn_fpn_8xb4-12e_coco.py'


def box_head(target_stds):
    return dict(
        type='mmspike.SpikingShared4Conv1FCBBoxHead',
        neuron=dict(type='SFA', levels=4, divisor=1),
        in_channels=256,
        conv_out_channels=256,
        fc_out_channels=1024,
        roi_feat_size=7,
        num_classes=80,
        norm_cfg=dict(type='BN'),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=target_stds),
        reg_class_agnostic=False,
        reg_decoded_bbox=True,
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
        loss_bbox=dict(type='GIoULoss', loss_weight=10.0),
    )


def stage(iou):
    return dict(
        assigner=dict(
            type='MaxIoUAssigner',
            pos_iou_thr=iou,
            neg_iou_thr=iou,
            min_pos_iou=iou,
            match_low_quality=False,
            ignore_iof_thr=-1,
        ),
        sampler=dict(type='RandomSampler', num=512, pos_fraction=0.25, neg_pos_ub=-1, add_gt_as_proposals=True),
        mask_size=28,
        pos_weight=-1,
        debug=False,
    )


model = dict(
    type='CascadeRCNN',
    roi_head=dict(
        type='mmspike.SpikingCascadeRoIHead',
        num_stages=3,
        stage_loss_weights=[1, 0.5, 0.25],
        bbox_head=[
            box_head([0.1, 0.1, 0.2, 0.2]),
            box_head([0.05, 0.05, 0.1, 0.1]),
            box_head([0.033, 0.033, 0.067, 0.067]),
        ],
    ),
    train_cfg=dict(rpn_proposal=dict(max_per_img=2000), rcnn=[stage(0.5), stage(0.6), stage(0.7)]),
)

train_cfg = dict(max_epochs=36)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=36, milestones=[27, 33], gamma=0.1),
]
