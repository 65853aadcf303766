/* Weight gradient of a depthwise convolution (stride 1, 'same' padding, K x K, K odd), channels-last, for the CPU.
 *
 * x, grad: [B, H, W, C], C is LANES at least. Images are cut into strips of STRIP rows; partial: [B, strips, K, K, C], one sum a strip,
 * which the caller adds up. So the result does not depend on the number of threads, and long sums keep their precision.
 */
#include "lif.h"

/* columns of an image that are taken at a time: PART for the first cache, COLUMNS for registers */
enum { LANES = 64 / sizeof(REAL), STRIP = 16, PART = 56, COLUMNS = 7 };

/* LANES channels at once, wherever they lie */
typedef REAL Vector __attribute__((vector_size(64), aligned(sizeof(REAL)), may_alias));

int64_t FN(depthwise_strips)(int64_t H) { return (H + STRIP - 1) / STRIP; }

/* out [K, K, C]: the sum over the rows first to last of grad, for LANES channels */
static inline void strip(const REAL *restrict x, const REAL *restrict g, REAL *restrict out, int64_t first, int64_t last,
                         int64_t H, int64_t W, int64_t C, const int K) {
    const int P = K / 2;
    Vector sums[7][7] = {0};
    for (int64_t part = 0; part < W; part += PART)
        for (int64_t h = first; h < last; h++)
            for (int i = 0; i < K; i++) {
                if (h + i - P < 0 || h + i - P >= H) continue;
                const REAL *restrict gr = g + h * W * C, *restrict xr = x + (h + i - P) * W * C;
                Vector acc[7];
                for (int j = 0; j < K; j++) acc[j] = sums[i][j];
                for (int64_t w = part; w < W && w < part + PART; w += COLUMNS) {
                    Vector gv[COLUMNS];
                    for (int o = 0; o < COLUMNS; o++) gv[o] = w + o < W ? *(const Vector *)(gr + (w + o) * C) : (Vector){0};
#pragma GCC unroll 16
                    for (int q = 0; q < COLUMNS + K - 1; q++) {
                        const int64_t at = w + q - P;
                        if (at < 0 || at >= W) continue;
                        const Vector v = *(const Vector *)(xr + at * C);
#pragma GCC unroll 8
                        for (int j = 0; j < K; j++)
                            if (q - j >= 0 && q - j < COLUMNS) acc[j] += v * gv[q - j];
                    }
                }
                for (int j = 0; j < K; j++) sums[i][j] = acc[j];
            }
    for (int i = 0; i < K; i++)
        for (int j = 0; j < K; j++) *(Vector *)(out + (i * K + j) * C) = sums[i][j];
}

void FN(depthwise_weight)(const REAL *x, const REAL *grad, REAL *partial, int64_t B, int64_t H, int64_t W, int64_t C, int K) {
    const int64_t groups = C / LANES, strips = FN(depthwise_strips)(H);
#pragma omp parallel for schedule(static)
    for (int64_t task = 0; task < B * strips * groups; task++) {
        const int64_t b = task / groups / strips, s = task / groups % strips, group = task % groups;
        const int64_t first = s * STRIP, last = first + STRIP < H ? first + STRIP : H;
        for (int64_t c = group * LANES; c < (group + 1 < groups ? (group + 1) * LANES : C); c += LANES) {
            if (c > C - LANES) c = C - LANES; /* the last channels overlap those before */
            const REAL *xb = x + b * H * W * C + c, *gb = grad + b * H * W * C + c;
            REAL *out = partial + (b * strips + s) * K * K * C + c;
            if (K == 3)
                strip(xb, gb, out, first, last, H, W, C, 3);
            else if (K == 5)
                strip(xb, gb, out, first, last, H, W, C, 5);
            else
                strip(xb, gb, out, first, last, H, W, C, 7);
        }
    }
}
