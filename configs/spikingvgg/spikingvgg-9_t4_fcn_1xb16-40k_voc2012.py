# Spiking-FCN on VGG-9 (LIF, T = 4): as the Spiking-DeepLab beside it, with three up-steps to the size of the image. The two
# convolutions of 1024 channels are the backbone's last stage, so the head has none.
_base_ = './spikingvgg-9_t4_deeplab_1xb16-40k_voc2012.py'

model = dict(
    backbone=dict(arch='spikingvgg-9-fcn', out_indices=(0, 1, 2, 3)),
    decode_head=dict(
        _delete_=True,
        type='mmspike.SpikingFCNHead',
        in_channels=[64, 128, 256, 1024],
        in_index=[0, 1, 2, 3],
        channels=1024,
        num_convs=0,
        num_classes=21,
        neuron=dict(type='LIF', tau=2.0),
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
)
