# A trained E-SpikeFormer-t goes on with weights of 8 bits, for deploy.py --int8: --cfg-options load_from=CHECKPOINT of
# espike_cifar10.py. All layers but the first have them, the classifier, too, so that the integer file rounds nothing.
_base_ = './espikeformer-t-w4_1xb64-4e_cifar10.py'

model = dict(backbone=dict(weight_bits=8), head=dict(weight_bits=8))
