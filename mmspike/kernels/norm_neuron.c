/* Batch norm and the neuron behind it as one function of the norm's input, for the CPU.
 *
 * Arrays are [rows, C], channels innermost (channels-last); with time, rows are [T, M]. Compiled as neurons.c is. Sums over rows
 * are taken block by block and added in a fixed order: they do not depend on the number of threads.
 */
#include "lif.h"

enum { TILE = 1024, TILES_PER_BLOCK = 16 };
enum { LIF = 0, SFA = 1, IDENTITY = 2 };

typedef struct {
    int kind; /* LIF, SFA, IDENTITY */
    int leak, surrogate;
    REAL tau, v_threshold, v_reset, alpha; /* LIF */
    REAL levels, divisor;                  /* SFA */
} Neuron;

static inline int64_t rows_per_tile(int64_t C) { return C < TILE ? TILE / C : 1; }

/* repeat [C] to a whole tile, so that loops run over rows and channels at once */
static void expand(REAL *tile, const REAL *channels, int64_t C) {
    for (int64_t r = 0; r < rows_per_tile(C); r++)
        for (int64_t c = 0; c < C; c++) tile[r * C + c] = channels[c];
}

/* number of blocks over which sums are kept apart */
int64_t FN(norm_blocks)(int64_t M, int64_t C) {
    const int64_t rows = rows_per_tile(C) * TILES_PER_BLOCK;
    return (M + rows - 1) / rows;
}

/* Mean and biased variance of each channel. partial: [blocks, 2, C]. Returns 0, or 1 when memory is out. */
int FN(norm_statistics)(const REAL *y, REAL *mean, REAL *var, double *partial, int64_t rows, int64_t C) {
    const int64_t R = rows_per_tile(C), per_block = R * TILES_PER_BLOCK, blocks = FN(norm_blocks)(rows, C), L = R * C;
    int failed = 0;
#pragma omp parallel reduction(| : failed)
    {
        REAL *restrict acc = malloc(sizeof(REAL) * L * 2), *restrict m = acc + L;
        if (!acc) failed = 1;
#pragma omp for schedule(dynamic)
        for (int64_t b = 0; b < blocks; b++) {
            if (!acc) continue;
            double *restrict sum = partial + b * 2 * C, *restrict square = sum + C;
            const int64_t first = b * per_block, last = first + per_block < rows ? first + per_block : rows;
            for (int pass = 0; pass < 2; pass++) {
                for (int64_t i = 0; i < L; i++) acc[i] = 0;
                for (int64_t r = first; r < last; r += R) {
                    const int64_t n = (last - r < R ? last - r : R) * C;
                    const REAL *restrict in = y + r * C;
                    if (pass == 0)
                        for (int64_t i = 0; i < n; i++) acc[i] += in[i];
                    else
                        for (int64_t i = 0; i < n; i++) acc[i] += (in[i] - m[i]) * (in[i] - m[i]);
                }
                double *restrict out = pass ? square : sum;
                for (int64_t c = 0; c < C; c++) out[c] = 0;
                for (int64_t r = 0; r < R; r++)
                    for (int64_t c = 0; c < C; c++) out[c] += acc[r * C + c];
                if (pass == 0) {
                    /* the block's own mean */
                    for (int64_t c = 0; c < C; c++) m[c] = (REAL)(sum[c] / (last - first));
                    for (int64_t r = 1; r < R; r++)
                        for (int64_t c = 0; c < C; c++) m[r * C + c] = m[c];
                }
            }
        }
        free(acc);
    }
    double *restrict total = calloc(2 * C, sizeof(double)), *restrict square = total + C;
    if (!total || failed) {
        free(total);
        return 1;
    }
    for (int64_t b = 0; b < blocks; b++)
        for (int64_t c = 0; c < C; c++) total[c] += partial[b * 2 * C + c];
    for (int64_t c = 0; c < C; c++) total[c] /= rows;
    for (int64_t b = 0; b < blocks; b++) {
        const int64_t n = rows - b * per_block < per_block ? rows - b * per_block : per_block;
        for (int64_t c = 0; c < C; c++) {
            const double shift = (double)(REAL)(partial[b * 2 * C + c] / n) - total[c];
            /* sum (y - mu)^2 = sum (y - m)^2 + n (m - mu)^2, as m is the block's mean up to rounding */
            square[c] += partial[(b * 2 + 1) * C + c] + n * shift * shift;
        }
    }
    for (int64_t c = 0; c < C; c++) {
        mean[c] = (REAL)total[c];
        var[c] = (REAL)(square[c] / rows);
    }
    free(total);
    return 0;
}

/* out = N(y * scale + shift); y, out: [T, M, C]. Where `counts` is given, it gets divisor * out; of both one may be NULL. Returns
 * 0, 1 when memory is out, or 2 when a membrane is NaN, which a count cannot tell. */
int FN(norm_neuron_forward)(const REAL *y, const REAL *scale, const REAL *shift, REAL *out, uint8_t *counts, int64_t T,
                            int64_t M, int64_t C, const Neuron *neuron) {
    const int64_t R = rows_per_tile(C), L = R * C;
    const Neuron N = *neuron;
    int failed = 0, nan = 0;
#pragma omp parallel reduction(| : failed, nan)
    {
        REAL *restrict a = malloc(sizeof(REAL) * L * 5);
        REAL *restrict b = a + L, *restrict u = b + L, *restrict h = u + L, *restrict x = h + L;
        if (a) {
            expand(a, scale, C);
            expand(b, shift, C);
        } else
            failed = 1;
#pragma omp for schedule(static)
        for (int64_t r = 0; r < M; r += R) {
            if (!a) continue;
            const int n = (int)((M - r < R ? M - r : R) * C);
            if (N.kind == LIF)
                for (int i = 0; i < n; i++) u[i] = N.v_reset;
            for (int64_t t = 0; t < T; t++) {
                const REAL *restrict in = y + (t * M + r) * C;
                REAL *restrict s = out ? out + (t * M + r) * C : x;
                uint8_t *restrict k = counts ? counts + (t * M + r) * C : NULL;
                if (N.kind == LIF) {
                    for (int i = 0; i < n; i++) x[i] = in[i] * a[i] + b[i];
                    charge(h, x, u, n, N.leak, N.tau, N.v_reset);
                    for (int i = 0; i < n; i++) {
                        const int fired = h[i] >= N.v_threshold;
                        /* a NaN never fires, but must be seen */
                        s[i] = h[i] != h[i] ? h[i] : fired ? (REAL)1 : (REAL)0;
                        u[i] = fired ? N.v_reset : h[i];
                    }
                } else if (N.kind == SFA) {
                    for (int i = 0; i < n; i++) {
                        const REAL z = in[i] * a[i] + b[i];
                        const REAL c = z < 0 ? (REAL)0 : z > N.levels ? N.levels : z;
                        s[i] = sizeof(REAL) == 4 ? (REAL)__builtin_rintf((float)c) : (REAL)__builtin_rint((double)c);
                    }
                } else
                    for (int i = 0; i < n; i++) s[i] = in[i] * a[i] + b[i];
                if (k)
                    for (int i = 0; i < n; i++) {
                        nan |= s[i] != s[i];
                        k[i] = (uint8_t)(int)s[i];
                    }
                if (N.kind == SFA && out)
                    for (int i = 0; i < n; i++) s[i] /= N.divisor;
            }
        }
        free(a);
    }
    return failed ? 1 : nan ? 2 : 0;
}

/* Gradient of y from that of the output; the membranes are computed anew from y.
 *
 * mean, inverse (1 / standard deviation): as in forward, scale = weight * inverse. training: they are the batch's own, and get
 * a gradient. partial: [blocks, 2, C]. sums: [2, C], those of grad_x and of grad_x * (y - mean), x being the membrane.
 * grad_y may be grad. Returns 0, or 1 when memory is out.
 */
int FN(norm_neuron_backward)(const REAL *y, const REAL *grad, const REAL *scale, const REAL *shift, const REAL *mean,
                             const REAL *inverse, REAL *grad_y, REAL *sums, double *partial, int64_t T, int64_t M, int64_t C,
                             int training, const Neuron *neuron) {
    const int64_t R = rows_per_tile(C), per_block = R * TILES_PER_BLOCK, blocks = FN(norm_blocks)(M, C), L = R * C;
    const Neuron N = *neuron;
    const REAL gain = N.leak == 0 ? (REAL)1 : N.leak == 1 ? (REAL)1 / N.tau : N.tau;
    const REAL keep = N.leak == 0 ? (REAL)1 : (REAL)1 - gain;
    int failed = 0;
#pragma omp parallel reduction(| : failed)
    {
        REAL *restrict a = malloc(sizeof(REAL) * L * (9 + (N.kind == LIF ? T : 0)));
        REAL *restrict b = a + L, *restrict m = b + L, *restrict sum = m + L, *restrict dot = sum + L;
        REAL *restrict u = dot + L, *restrict x = u + L, *restrict d = x + L, *restrict gv = d + L, *hs = gv + L;
        if (a) {
            expand(a, scale, C);
            expand(b, shift, C);
            expand(m, mean, C);
        } else
            failed = 1;
#pragma omp for schedule(dynamic)
        for (int64_t block = 0; block < blocks; block++) {
            if (!a) continue;
            const int64_t first = block * per_block, last = first + per_block < M ? first + per_block : M;
            for (int64_t i = 0; i < L; i++) sum[i] = dot[i] = 0;
            for (int64_t r = first; r < last; r += R) {
                const int n = (int)((last - r < R ? last - r : R) * C);
                if (N.kind == LIF) {
                    for (int i = 0; i < n; i++) u[i] = N.v_reset, gv[i] = 0;
                    for (int64_t t = 0; t < T; t++) {
                        const REAL *restrict in = y + (t * M + r) * C;
                        REAL *restrict h = hs + t * L;
                        for (int i = 0; i < n; i++) x[i] = in[i] * a[i] + b[i];
                        charge(h, x, u, n, N.leak, N.tau, N.v_reset);
                        for (int i = 0; i < n; i++) u[i] = h[i] >= N.v_threshold ? N.v_reset : h[i];
                    }
                }
                for (int64_t t = T - 1; t >= 0; t--) {
                    const int64_t at = (t * M + r) * C;
                    const REAL *restrict in = y + at, *gs = grad + at;
                    REAL *gy = grad_y + at;
                    if (N.kind == LIF) {
                        const REAL *restrict h = hs + t * L;
                        surrogate_derivative(d, h, n, N.v_threshold, N.surrogate, N.alpha);
                        /* the reset is detached: a neuron that fired passes nothing on through its membrane */
                        for (int i = 0; i < n; i++) gv[i] = h[i] >= N.v_threshold ? (REAL)0 : gv[i];
#pragma omp simd
                        for (int i = 0; i < n; i++) {
                            const REAL gh = gs[i] * d[i] + gv[i], gx = gh * gain;
                            gv[i] = gh * keep;
                            gy[i] = gx;
                            sum[i] += gx;
                            dot[i] += gx * (in[i] - m[i]);
                        }
                    } else if (N.kind == SFA) {
#pragma omp simd
                        for (int i = 0; i < n; i++) {
                            const REAL z = in[i] * a[i] + b[i];
                            const REAL gx = (z >= 0) & (z <= N.levels) ? gs[i] / N.divisor : (REAL)0;
                            gy[i] = gx;
                            sum[i] += gx;
                            dot[i] += gx * (in[i] - m[i]);
                        }
                    } else
                        for (int i = 0; i < n; i++) {
                            sum[i] += gs[i];
                            dot[i] += gs[i] * (in[i] - m[i]);
                        }
                }
            }
            double *restrict out = partial + block * 2 * C;
            for (int64_t c = 0; c < 2 * C; c++) out[c] = 0;
            for (int64_t r = 0; r < R; r++)
                for (int64_t c = 0; c < C; c++) out[c] += sum[r * C + c], out[C + c] += dot[r * C + c];
        }
        free(a);
    }
    double *restrict total = calloc(2 * C, sizeof(double));
    REAL *restrict k = malloc(sizeof(REAL) * C * 2);
    if (!k || !total || failed) {
        free(k);
        free(total);
        return 1;
    }
    for (int64_t b = 0; b < blocks; b++)
        for (int64_t c = 0; c < 2 * C; c++) total[c] += partial[b * 2 * C + c];
    for (int64_t c = 0; c < C; c++) {
        const double sum = total[c], dot = total[C + c];
        sums[c] = (REAL)sum;
        sums[C + c] = (REAL)dot;
        k[c] = (REAL)(-(double)scale[c] * sum / (double)(T * M));
        k[C + c] = (REAL)(-(double)scale[c] * inverse[c] * inverse[c] * dot / (double)(T * M));
    }
    free(total);
    const REAL *from = N.kind == IDENTITY ? grad : grad_y;
#pragma omp parallel reduction(| : failed)
    {
        REAL *restrict a = malloc(sizeof(REAL) * L * 4), *restrict m = a + L, *restrict k0 = m + L, *restrict k1 = k0 + L;
        if (a) {
            expand(a, scale, C);
            expand(m, mean, C);
            expand(k0, k, C);
            expand(k1, k + C, C);
        } else
            failed = 1;
#pragma omp for schedule(static)
        for (int64_t r = 0; r < T * M; r += R) {
            if (!a) continue;
            const int n = (int)((T * M - r < R ? T * M - r : R) * C);
            const REAL *restrict in = y + r * C, *gx = from + r * C;
            REAL *gy = grad_y + r * C;
            if (training)
#pragma omp simd
                for (int i = 0; i < n; i++) gy[i] = gx[i] * a[i] + (k0[i] + (in[i] - m[i]) * k1[i]);
            else
#pragma omp simd
                for (int i = 0; i < n; i++) gy[i] = gx[i] * a[i];
        }
        free(a);
    }
    free(k);
    return failed;
}
