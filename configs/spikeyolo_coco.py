# SpikeYOLO of size s (23.2 M, T = 1, D = 4) on COCO at 640 px, from scratch, with the published recipe: 4 GPUs, 10 images each.
# configs/spikeyolo/README.md says what differs.
_base_ = [
    './_base_/models/spikeyolo_s.py',
    './_base_/datasets/coco_mosaic_640.py',
    './_base_/schedules/coco_sgd_300e.py',
    './_base_/runtime_mmdet.py',
]

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

# losses are sums over the images of a step, of which the gradient's norm is clipped
images = 80
model = dict(
    bbox_head=dict(
        loss_cls=dict(loss_weight=0.5 * images),
        loss_bbox=dict(loss_weight=7.5 * images),
        loss_dfl=dict(loss_weight=1.5 * images),
    )
)

custom_hooks = _base_.custom_hooks + [
    # validated and saved are means of the weights, of the last 10,000 iterations in the end
    dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=1e-4, gamma=2000, update_buffers=True, priority=49),
    # the last ten epochs see images as they are
    dict(type='PipelineSwitchHook', switch_epoch=_base_.max_epochs - 10, switch_pipeline=_base_.last_pipeline),
]
