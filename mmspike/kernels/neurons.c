/* Neurons fused over all time steps, for the CPU. Compiled once for float and once for double (REAL, SUFFIX, EXP).
 *
 * Arrays are [T, N], time outermost, any layout of the N elements of one step.
 */
#include "lif.h"

enum { BLOCK = 512 };

/* v0, v: [N], the membrane before (NULL: v_reset) and after; x, spikes: [T, N] */
void FN(lif_forward)(const REAL *x, const REAL *v0, REAL *v, REAL *spikes, int64_t T, int64_t N, int leak, REAL tau,
                     REAL v_threshold, REAL v_reset) {
#pragma omp parallel for schedule(static)
    for (int64_t start = 0; start < N; start += BLOCK) {
        const int n = (int)(N - start < BLOCK ? N - start : BLOCK);
        REAL h[BLOCK];
        REAL *restrict u = v + start;
        for (int i = 0; i < n; i++) u[i] = v0 ? v0[start + i] : v_reset;
        for (int64_t t = 0; t < T; t++) {
            REAL *restrict s = spikes + t * N + start;
            charge(h, x + t * N + start, u, n, leak, tau, v_reset);
            for (int i = 0; i < n; i++) {
                const int fired = h[i] >= v_threshold;
                /* a NaN never fires, but must be seen */
                s[i] = h[i] != h[i] ? h[i] : fired ? (REAL)1 : (REAL)0;
                u[i] = fired ? v_reset : h[i];
            }
        }
    }
}

/* Recomputes the membrane from x and v0 (NULL: v_reset). grad_v: gradient of the last membrane [N], NULL: 0. grad_v0: that of the
 * first. grad_decay: one partial sum a block of 512 elements. Both may be NULL. Returns 0, or 1 when memory is out. */
int FN(lif_backward)(const REAL *x, const REAL *v0, const REAL *grad_spikes, const REAL *grad_v, REAL *grad_x, REAL *grad_v0,
                     double *grad_decay, int64_t T, int64_t N, int leak, REAL tau, REAL v_threshold, REAL v_reset,
                     int surrogate, REAL alpha) {
    const REAL gain = leak == 0 ? (REAL)1 : leak == 1 ? (REAL)1 / tau : tau;
    const REAL keep = leak == 0 ? (REAL)1 : (REAL)1 - gain;
    int failed = 0;
#pragma omp parallel reduction(| : failed)
    {
        /* membranes before (v) and after (h) the charge of each step */
        REAL *hs = malloc(sizeof(REAL) * BLOCK * T * 2);
        REAL *vs = hs + BLOCK * T;
        if (!hs) failed = 1;
#pragma omp for schedule(static)
        for (int64_t start = 0; start < N; start += BLOCK) {
            if (!hs) continue;
            const int n = (int)(N - start < BLOCK ? N - start : BLOCK);
            REAL u[BLOCK], d[BLOCK], gv[BLOCK];
            double sum = 0;
            for (int i = 0; i < n; i++) u[i] = v0 ? v0[start + i] : v_reset;
            for (int i = 0; i < n; i++) gv[i] = grad_v ? grad_v[start + i] : (REAL)0;
            for (int64_t t = 0; t < T; t++) {
                REAL *restrict h = hs + t * BLOCK, *restrict v = vs + t * BLOCK;
                for (int i = 0; i < n; i++) v[i] = u[i];
                charge(h, x + t * N + start, v, n, leak, tau, v_reset);
                for (int i = 0; i < n; i++) u[i] = h[i] >= v_threshold ? v_reset : h[i];
            }
            for (int64_t t = T - 1; t >= 0; t--) {
                const REAL *restrict h = hs + t * BLOCK;
                const REAL *restrict gs = grad_spikes + t * N + start;
                REAL *restrict gx = grad_x + t * N + start;
                surrogate_derivative(d, h, n, v_threshold, surrogate, alpha);
                for (int i = 0; i < n; i++) {
                    /* the reset is detached: a neuron that fired passes nothing on through its membrane */
                    const REAL through = h[i] >= v_threshold ? (REAL)0 : gv[i];
                    d[i] = gs[i] * d[i] + through;
                    gx[i] = d[i] * gain;
                    gv[i] = d[i] * keep;
                }
                if (grad_decay) {
                    const REAL *restrict v = vs + t * BLOCK, *restrict in = x + t * N + start;
                    for (int i = 0; i < n; i++) sum += (double)d[i] * (in[i] - (v[i] - v_reset));
                }
            }
            if (grad_v0)
                for (int i = 0; i < n; i++) grad_v0[start + i] = gv[i];
            if (grad_decay) grad_decay[start / BLOCK] = sum;
        }
        free(hs);
    }
    return failed;
}

/* counts / divisor, and, where it is wanted, whether the gradient passes (0 <= x <= levels) */
void FN(sfa_forward)(const REAL *restrict x, REAL *restrict out, uint8_t *restrict window, int64_t N, REAL levels,
                     REAL divisor) {
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < N; i++) {
        const REAL a = x[i] < 0 ? (REAL)0 : x[i] > levels ? levels : x[i];
        out[i] = (sizeof(REAL) == 4 ? (REAL)__builtin_rintf((float)a) : (REAL)__builtin_rint((double)a)) / divisor;
        if (window) window[i] = x[i] >= 0 & x[i] <= levels;
    }
}

/* As sfa_forward, the count in one byte with the window, which has its lowest bit. Returns 1 where x has a NaN. */
int FN(sfa_codes)(const REAL *restrict x, REAL *restrict out, uint8_t *restrict codes, int64_t N, REAL levels, REAL divisor) {
    int nan = 0;
#pragma omp parallel for simd schedule(static) reduction(| : nan)
    for (int64_t i = 0; i < N; i++) {
        const REAL a = x[i] < 0 ? (REAL)0 : x[i] > levels ? levels : x[i];
        const REAL count = sizeof(REAL) == 4 ? (REAL)__builtin_rintf((float)a) : (REAL)__builtin_rint((double)a);
        out[i] = count / divisor;
        codes[i] = (uint8_t)((int)count << 1 | (x[i] >= 0 & x[i] <= levels));
        nan |= x[i] != x[i];
    }
    return nan;
}

/* The window is the lowest bit of a byte. */
void FN(sfa_backward)(const REAL *restrict grad, const uint8_t *restrict window, REAL *restrict grad_x, int64_t N,
                      REAL divisor) {
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < N; i++) grad_x[i] = window[i] & 1 ? grad[i] / divisor : (REAL)0;
}
