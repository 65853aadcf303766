# Four time steps from the weights of one: --cfg-options load_from=CHECKPOINT of metaspike_imagenet.py. Hard distillation
# from CAFormer-B36 (pip install timm, which downloads the weights).
_base_ = '../metaspike_imagenet.py'

model = dict(
    type='mmspike.DistilledImageClassifier',
    backbone=dict(T=4),
    head=dict(distilled=True),
    teacher=dict(type='TimmClassifier', model_name='caformer_b36', pretrained=True),
)

train_dataloader = dict(batch_size=24)
# 2e-5 per 256 at 8 x 24
train_cfg = dict(max_epochs=50)
optim_wrapper = dict(optimizer=dict(lr=1.5e-5))
param_scheduler = [
    dict(type='CosineAnnealingLR', eta_min=1e-7, by_epoch=True, begin=0, end=50, convert_to_iter_based=True),
]
auto_scale_lr = dict(base_batch_size=192)
