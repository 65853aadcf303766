"""Operations that are not multiply-accumulates: those that move data, and those that are not billed.

The field's formula bills multiply-accumulates only. Everything here is reported with its number of output elements instead of
being free silently, and an operation that is in no table is reported as unknown. Names are those of PyTorch's dispatcher
without ``aten::`` and without the trailing underscore of in-place ones.
"""

#: rearrange or copy values, choose some of them, or fill with a constant: values that come out have gone in (or are 0)
MOVES = frozenset(
    """_reshape_alias _to_copy _unsafe_view alias as_strided broadcast_to cat chunk clone constant_pad_nd contiguous copy
    detach diagonal expand flip gather im2col index index_select lift lift_fresh masked_fill masked_select movedim narrow
    permute pin_memory pixel_shuffle pixel_unshuffle relu repeat reshape roll select select_backward slice split
    split_with_sizes squeeze stack t take to transpose unbind unfold unsafe_split unsqueeze upsample_nearest1d
    upsample_nearest2d upsample_nearest3d _upsample_nearest_exact2d view where slice_scatter select_scatter index_put
    _index_put_impl _unsafe_index _unsafe_index_put max_pool2d_with_indices max_pool3d_with_indices adaptive_max_pool2d amax
    native_dropout view_as_real""".split()
)

#: give whole numbers, spikes among them, from anything: neurons that are written out in plain PyTorch
ROUNDS = frozenset('round floor ceil trunc gt ge lt le eq ne heaviside sign'.split())

#: arithmetic that no formula of the field bills, by what it is
NOT_BILLED = {
    'normalisation': """native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training cudnn_batch_norm
        miopen_batch_norm _batch_norm_with_update batch_norm_elemt native_layer_norm native_group_norm _fused_rms_norm
        linalg_vector_norm norm""",
    'additions (residual, bias, sums)': """add sub rsub sum mean cumsum var var_mean std std_mean logsumexp nansum addcmul
        addcdiv""",
    'other elementwise arithmetic': """mul div true_divide floor_divide remainder fmod pow square sqrt rsqrt reciprocal neg abs
        exp exp2 expm1 log log1p log2 log10 sigmoid log_sigmoid_forward tanh sin cos atan atan2 erf gelu silu mish hardtanh
        hardsigmoid hardswish leaky_relu elu _prelu_kernel softplus _softmax _log_softmax clamp clamp_min clamp_max maximum
        minimum round floor ceil trunc sign heaviside lerp prod frac logit nan_to_num relu amax amin max min aminmax""",
    'pooling and resampling': """upsample_bilinear2d upsample_bicubic2d upsample_linear1d upsample_trilinear3d
        _upsample_bilinear2d_aa _upsample_bicubic2d_aa upsample_nearest1d upsample_nearest2d upsample_nearest3d
        _upsample_nearest_exact2d avg_pool1d avg_pool2d avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d
        max_pool2d_with_indices max_pool3d_with_indices adaptive_max_pool2d grid_sampler_2d grid_sampler_3d col2im
        reflection_pad2d replication_pad2d""",
    'region sampling (RoIAlign)': """mmcv::roi_align_forward mmcv::roi_pool_forward mmcv::roi_align_rotated_forward
        torchvision::roi_align torchvision::ps_roi_align torchvision::roi_pool""",
    'selection (NMS, sorting, comparison)': """mmcv::nms mmcv::softnms mmcv::nms_match mmcv::nms_rotated torchvision::nms sort
        argsort topk gt ge lt le eq ne argmax argmin any all nonzero isfinite isnan isinf unique_consecutive _unique2 _unique
        searchsorted bucketize bitwise_and bitwise_or bitwise_not bitwise_xor logical_and logical_or logical_not count_nonzero
        equal kthvalue median cummax cummin histc bincount""",
}
CATEGORY = {name: category for category, names in NOT_BILLED.items() for name in names.split()}

#: neither move features nor compute with them: allocation, constants, random numbers, queries
NO_ARITHMETIC = frozenset(
    """_local_scalar_dense arange empty empty_like empty_strided eye fill full full_like is_same_size item linspace meshgrid
    new_empty new_empty_strided new_full new_ones new_zeros normal ones ones_like promote_types rand rand_like randint randn
    randperm resize scalar_tensor set set_data sym_numel sym_size sym_stride tril tril_indices triu triu_indices uniform zero
    zeros zeros_like bernoulli exponential is_pinned is_nonzero record_stream device result_type can_cast _assert_async
    _assert_tensor_metadata resolve_conj resolve_neg _has_compatible_shallow_copy_type real conj _conj cudnn_is_acceptable
    one_hot""".split()
)


def base_name(qualified: str) -> str:
    """The name that the tables use: ``aten::add_`` -> ``add``; names of other namespaces stay whole."""
    return qualified.removeprefix('aten::').rstrip('_') if qualified.startswith('aten::') else qualified
