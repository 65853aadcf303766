_base_ = './sdtv1-8-512_t4_8xb48-310e_imagenet.py'

model = dict(backbone=dict(arch='sdtv1-8-384'), head=dict(in_channels=384))
