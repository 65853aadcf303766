# Spiking mask transformer with E-SpikeFormer 19M (D = 4) on ADE20K, the published recipe: 8 GPUs x 12.
_base_ = [
    './_base_/models/mask_former_espike.py',
    './_base_/datasets/ade20k_shortest_edge.py',
    './_base_/schedules/mask_former_adamw_160k.py',
    './_base_/runtime_mmseg.py',
]

custom_imports = dict(imports=['mmspike'], allow_failed_imports=False)

train_dataloader = dict(batch_size=12)
auto_scale_lr = dict(base_batch_size=96)
default_hooks = dict(checkpoint=dict(interval=16000))
