/* Weight gradient of a depthwise convolution (stride 1, 'same' padding, K x K, K odd), channels-last, for the CPU.
 *
 * x, grad: [B, H, W, C]. Images are cut into strips of STRIP rows; partial: [B, strips, K, K, C], one sum a strip, which the caller
 * adds up. So the result does not depend on the number of threads, and long sums keep their precision.
 */
#include "lif.h"

enum { LANES = 64 / sizeof(REAL), STRIP = 16 };

/* LANES channels at once, wherever they lie */
typedef REAL Vector __attribute__((vector_size(64), aligned(sizeof(REAL)), may_alias));

int64_t FN(depthwise_strips)(int64_t H) { return (H + STRIP - 1) / STRIP; }

/* out [K, K, C]: the sum over the rows first to last of grad, for `lanes` channels */
static inline void strip(const REAL *restrict x, const REAL *restrict g, REAL *restrict out, int64_t first, int64_t last,
                         int64_t H, int64_t W, int64_t C, int lanes, const int K) {
    const int P = K / 2;
    for (int i = 0; i < K; i++) {
        /* the K sums of one row of the kernel stay in registers while rows of the image go by */
        Vector acc[7] = {0};
        for (int64_t h = first; h < last; h++) {
            if (h + i - P < 0 || h + i - P >= H) continue;
            const REAL *restrict gr = g + h * W * C, *restrict xr = x + (h + i - P) * W * C;
            for (int64_t w = 0; w < W; w++) {
                const REAL *restrict gw = gr + w * C;
                if (w >= P && w < W - P && lanes == LANES) {
                    const REAL *restrict xw = xr + (w - P) * C;
                    const Vector gv = *(const Vector *)gw;
                    for (int j = 0; j < K; j++) acc[j] += gv * *(const Vector *)(xw + j * C);
                } else
                    for (int j = 0; j < K; j++) {
                        const int64_t at = w + j - P;
                        if (at >= 0 && at < W)
                            for (int l = 0; l < lanes; l++) acc[j][l] += gw[l] * xr[at * C + l];
                    }
            }
        }
        for (int j = 0; j < K; j++)
            for (int l = 0; l < lanes; l++) out[(i * K + j) * C + l] = acc[j][l];
    }
}

void FN(depthwise_weight)(const REAL *x, const REAL *grad, REAL *partial, int64_t B, int64_t H, int64_t W, int64_t C, int K) {
    const int64_t groups = (C + LANES - 1) / LANES, strips = FN(depthwise_strips)(H);
#pragma omp parallel for schedule(static)
    for (int64_t task = 0; task < B * strips * groups; task++) {
        const int64_t b = task / groups / strips, s = task / groups % strips, c = task % groups * LANES;
        const int64_t first = s * STRIP, last = first + STRIP < H ? first + STRIP : H;
        const int lanes = (int)(C - c < LANES ? C - c : LANES);
        const REAL *xb = x + b * H * W * C + c, *gb = grad + b * H * W * C + c;
        REAL *out = partial + (b * strips + s) * K * K * C + c;
        if (K == 3)
            strip(xb, gb, out, first, last, H, W, C, lanes, 3);
        else if (K == 5)
            strip(xb, gb, out, first, last, H, W, C, lanes, 5);
        else
            strip(xb, gb, out, first, last, H, W, C, lanes, 7);
    }
}
