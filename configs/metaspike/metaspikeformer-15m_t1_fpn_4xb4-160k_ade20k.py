_base_ = '../fpn_metaspike_ade20k.py'

model = dict(backbone=dict(T=1))
