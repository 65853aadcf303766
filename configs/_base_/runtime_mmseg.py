# What every run with mmseg shares. Schedules count iterations.
default_scope = 'mmseg'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # never without a readable checkpoint, whenever the run is killed
    checkpoint=dict(type='mmspike.SafeCheckpointHook', by_epoch=False, interval=4000),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'),
)
custom_hooks = [
    # a resumed run repeats bit for bit what an uninterrupted one does
    dict(type='mmspike.IterationSeedHook'),
    # a loss that is NaN or infinite stops the run, and the layer is named
    dict(type='mmspike.FiniteLossHook'),
    # separates samples for neurons with stateful=True
    dict(type='mmspike.SpikeResetHook'),
    # decode heads that take features for those of other strides are an error
    dict(type='mmspike.StrideCheckHook'),
    # reports what mmspike.LoadImageFromFile(on_error='skip') has skipped
    dict(type='mmspike.SkippedImagesHook'),
]

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='SegLocalVisualizer', vis_backends=vis_backends)
log_processor = dict(by_epoch=False)
log_level = 'INFO'
tta_model = dict(type='SegTTAModel')
load_from = None
resume = False
