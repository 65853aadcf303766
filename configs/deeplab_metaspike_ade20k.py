# Spiking-DeepLab with Meta-SpikeFormer 15M (LIF, T = 4) on ADE20K, spiking from end to end.
_base_ = [
    './_base_/models/deeplab_metaspike.py',
    './_base_/datasets/ade20k.py',
    './_base_/schedules/ade20k_adamw_160k.py',
    './_base_/runtime_mmseg.py',
]

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

default_hooks = dict(checkpoint=dict(interval=16000))
