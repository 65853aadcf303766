# The ANN twin of spikeyolo_nuclei: ReLU in place of every neuron, all else the same.
_base_ = '../spikeyolo_nuclei.py'

neuron = dict(_delete_=True, type='ReLU')
model = dict(backbone=dict(neuron=neuron), neck=dict(neuron=neuron), bbox_head=dict(neuron=neuron))
