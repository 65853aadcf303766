"""Costs of single operations at 45 nm (Horowitz, ISSCC 2014)."""

#: pJ of a multiply-accumulate and of an accumulate
PRESETS = dict(
    fp32=dict(mac=4.6, ac=0.9),
    fp16=dict(mac=1.5, ac=0.4),
    int8=dict(mac=0.23, ac=0.03),
)
MULTIPLY_8X8 = PRESETS['int8']['mac'] - PRESETS['int8']['ac']  # pJ of the multiplication alone
ADD_INT32 = 0.1  # pJ of an addition of 32-bit integers
MJ = 1e-9  # pJ -> mJ
