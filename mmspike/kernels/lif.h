/* What the fused neurons share. REAL is float or double, SUFFIX f or d, EXP expf or exp.
 *
 * Contraction of multiply and add must be off (-ffp-contract=off): then every membrane is rounded as PyTorch rounds it, and a
 * membrane that is recomputed in the backward pass is the one of the forward pass, bit by bit.
 */
#include <stdint.h>
#include <stdlib.h>

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define FN(name) JOIN(name, SUFFIX)

#ifdef VECTOR_EXP
/* that of glibc, whose headers offer it under -ffast-math only */
__attribute__((__simd__("notinbranch")))
#endif
REAL EXP(REAL);

enum { SIGMOID = 0, ATAN = 1, RECTANGLE = 2 };

/* leak: 0 none (IF), 1 division by tau, 2 multiplication by tau's reciprocal */
static inline void charge(REAL *restrict h, const REAL *restrict x, const REAL *restrict v, int n, int leak, REAL tau,
                          REAL v_reset) {
    if (leak == 0)
        for (int i = 0; i < n; i++) h[i] = v[i] + x[i];
    else if (leak == 1)
        for (int i = 0; i < n; i++) h[i] = v[i] + (x[i] - (v[i] - v_reset)) / tau;
    else
        for (int i = 0; i < n; i++) h[i] = v[i] + (x[i] - (v[i] - v_reset)) * tau;
}

/* d: derivative of the surrogate at the membrane h */
static inline void surrogate_derivative(REAL *restrict d, const REAL *restrict h, int n, REAL v_threshold, int surrogate,
                                        REAL alpha) {
    const REAL half_pi_alpha = (REAL)1.57079632679489661923 * alpha;
    if (surrogate == SIGMOID) {
#pragma omp simd
        for (int i = 0; i < n; i++) {
            const REAL s = (REAL)1 / ((REAL)1 + EXP(-alpha * (h[i] - v_threshold)));
            d[i] = alpha * s * ((REAL)1 - s);
        }
    } else if (surrogate == ATAN) {
        for (int i = 0; i < n; i++) {
            const REAL a = half_pi_alpha * (h[i] - v_threshold);
            d[i] = alpha / 2 / ((REAL)1 + a * a);
        }
    } else {
        for (int i = 0; i < n; i++) {
            const REAL a = h[i] - v_threshold;
            d[i] = (a < 0 ? -a : a) < (REAL)0.5 / alpha ? alpha : (REAL)0;
        }
    }
}
