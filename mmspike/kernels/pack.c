/* Spikes as counts of one byte, for the CPU: s = count / divisor. */
#include "lif.h"

int FN(pack)(const REAL *restrict s, uint8_t *restrict counts, int64_t N, REAL divisor) {
    int nan = 0;
#pragma omp parallel for simd schedule(static) reduction(| : nan)
    for (int64_t i = 0; i < N; i++) {
        counts[i] = (uint8_t)(int)(s[i] * divisor + (REAL)0.5);
        nan |= s[i] != s[i];
    }
    return nan;
}

/* of counts that stand `shift` bits to the left */
void FN(unpack)(const uint8_t *restrict counts, REAL *restrict s, int64_t N, REAL divisor, int shift) {
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < N; i++) s[i] = (REAL)(counts[i] >> shift) / divisor;
}
