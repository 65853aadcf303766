#!/usr/bin/env bash
# Does masked pretraining help? The small encoder on CIFAR-10 folders: pretrained and fine-tuned against from scratch, the
# fine-tuning the same for both. It prints the top-1 of the last epoch for every seed, then mean and standard deviation.
#
#   tools/benchmarks/mae_cifar10.sh DATA_ROOT WORK_DIR [SEED ...]      default seeds: 0 1 2
#
# A second start with the same WORK_DIR continues where the first one ended. OPTIONS holds further --cfg-options.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2; }
data=$(realpath "$1") work=$(realpath -m "$2")
cd "$(dirname "$0")/../.."
shift 2
[ $# -gt 0 ] || set -- 0 1 2
configs=configs/espike
mkdir -p "$work"

train() {  # config, name, options
    local config=$1 dir=$work/$2
    shift 2
    if [ ! -e "$dir/done" ]; then
        python tools/train.py "$config" --data-root "$data" --work-dir "$dir" --resume auto --cfg-options "$@" ${OPTIONS:-}
        touch "$dir/done"
    fi
}

accuracy() {  # the last one that a run has logged
    cat "$work/$1"/*/vis_data/scalars.json | grep -o '"accuracy/top1": [0-9.]*' | tail -1 | cut -d' ' -f2
}

for seed in "$@"; do
    train $configs/espikeformer-mae-small_pretrain_1xb64-30e_cifar10.py pretrain_"$seed" randomness.seed="$seed"
    train $configs/espikeformer-mae-small_1xb64-15e_cifar10.py finetune_"$seed" randomness.seed="$seed" \
        load_from="$work/pretrain_$seed/epoch_30.pth"
    train $configs/espikeformer-mae-small_1xb64-15e_cifar10.py scratch_"$seed" randomness.seed="$seed"
done

{
    for seed in "$@"; do
        echo "$seed $(accuracy scratch_"$seed") $(accuracy finetune_"$seed")"
    done
} | awk '
    { printf "seed %s: from scratch %.1f, pretrained %.1f\n", $1, $2, $3; a += $2; aa += $2 * $2; b += $3; bb += $3 * $3 }
    function deviation(sum, squares) { v = NR > 1 ? (squares - sum * sum / NR) / (NR - 1) : 0; return v > 0 ? sqrt(v) : 0 }
    END {
        printf "mean of %d: from scratch %.1f (standard deviation %.1f), ", NR, a / NR, deviation(a, aa)
        printf "pretrained %.1f (%.1f)\n", b / NR, deviation(b, bb)
    }'
