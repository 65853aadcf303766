# What every run with mmpretrain shares.
default_scope = 'mmpretrain'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # never without a readable checkpoint, whenever the run is killed
    checkpoint=dict(type='mmspike.SafeCheckpointHook', interval=1),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='VisualizationHook'),
)
custom_hooks = [
    # a resumed run repeats bit for bit what an uninterrupted one does
    dict(type='mmspike.IterationSeedHook'),
    # a loss that is NaN or infinite stops the run, and the layer is named
    dict(type='mmspike.FiniteLossHook'),
    # separates samples for neurons with stateful=True
    dict(type='mmspike.SpikeResetHook'),
    # reports what mmspike.LoadImageFromFile(on_error='skip') has skipped
    dict(type='mmspike.SkippedImagesHook'),
]

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='UniversalVisualizer', vis_backends=vis_backends)
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=True)
log_level = 'INFO'
load_from = None
resume = False
