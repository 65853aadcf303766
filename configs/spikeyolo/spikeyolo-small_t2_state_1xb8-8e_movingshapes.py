# The small SpikeYOLO with membranes that go on from window to window: windows of 50 ms in two steps follow each other through a
# recording, and shapes stand still for a part of the time, in which they send no events:
#   mmspike moving-shapes data/moving_shapes_rests --layout gen1 --number 80 8 8 --seconds 4 --rests 0.4
# To compare with, custom_hooks=[dict(type='mmspike.SpikeResetHook', sequences=False)] in place of its hook starts every window
# from rest.
_base_ = '../spikeyolo_movingshapes.py'

data_root = 'data/moving_shapes_rests/'
T = 2
neuron = dict(stateful=True)
model = dict(backbone=dict(T=T, neuron=neuron), neck=dict(neuron=neuron))

samples = dict(samples='sequences', window=50_000)
# events of a recording are not mirrored from one window to the next
pipeline = [
    dict(type='mmspike.LoadEventWindow'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='mmspike.DropHotPixels', factor=20.0),
    dict(type='mmspike.EventsToFrames', T=T, by='time'),
    dict(type='mmspike.PackEventDetInputs'),
]
train_dataloader = dict(
    sampler=dict(_delete_=True, type='mmspike.StreamSampler', batch_size=8),
    dataset=dict(**samples, data_root=data_root, pipeline=pipeline),
)
val_dataloader = dict(batch_size=1, dataset=dict(**samples, data_root=data_root, pipeline=pipeline))
test_dataloader = dict(batch_size=1, dataset=dict(**samples, data_root=data_root, pipeline=pipeline))
