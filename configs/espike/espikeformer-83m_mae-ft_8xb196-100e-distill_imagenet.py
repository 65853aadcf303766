# The last step of the published recipe: --cfg-options load_from=CHECKPOINT of the fine-tuned model. Hard distillation from
# CAFormer-B36 (pip install timm, which downloads the weights), all layers at one learning rate.
_base_ = './espikeformer-83m_mae-ft_8xb128-150e_imagenet.py'

model = dict(
    type='mmspike.DistilledImageClassifier',
    head=dict(distilled=True),
    teacher=dict(type='TimmClassifier', model_name='caformer_b36', pretrained=True),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.5), dict(type='CutMix', alpha=1.0)]),
)

train_dataloader = dict(batch_size=196)
train_cfg = dict(max_epochs=100)
# 1e-3 per 256, 5 epochs of warm-up
optim_wrapper = dict(optimizer=dict(lr=6.125e-3), paramwise_cfg=dict(layer_decay_rate=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=5, end=100, convert_to_iter_based=True),
]
auto_scale_lr = dict(base_batch_size=1568)
