# Meta-SpikeFormer 15M on ImageNet with one time step, from scratch: 8 GPUs x 128. Its weights start the training with four
# steps (metaspike/metaspikeformer-15m_t4_8xb24-50e-distill_imagenet.py).
_base_ = ['./_base_/datasets/imagenet.py', './_base_/schedules/imagenet_lamb_200e.py', './_base_/runtime_mmpretrain.py']

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmspike.MetaSpikeFormer',
        arch='metaspikeformer-15m',
        T=1,
        neuron=dict(type='LIF', tau=2.0),
        out_indices=(3,),
        temporal_output='keep',
    ),
    head=dict(
        type='mmspike.SpikingLinearClsHead',
        num_classes=1000,
        in_channels=360,
        neuron=dict(type='LIF', tau=2.0),
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
)
