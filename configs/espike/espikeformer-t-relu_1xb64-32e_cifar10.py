# The ANN twin of espike_cifar10: ReLU in place of every neuron, all else the same.
_base_ = '../espike_cifar10.py'

model = dict(
    backbone=dict(neuron=dict(_delete_=True, type='ReLU')),
    head=dict(neuron=dict(_delete_=True, type='ReLU')),
)
