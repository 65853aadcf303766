/* Convolutions of spikes that are 0 or 1, on the CPU: sums of those rows of a matrix that spikes pick. Time grows with the spikes.
 *
 * Spikes are bits [B, H, W, words], words of 64 channels. An output pixel sees the rows (i * K + j) * C + c of the weight; it adds
 * up those with a spike. The gradient of such a row is the sum of the gradients of the pixels that picked it. Matrices lie in
 * tiles of TILE columns, [tiles, rows, TILE], so that one tile stays in the cache. Sums do not depend on the number of threads.
 */
#include <string.h>
#ifdef __AVX512BW__
#include <immintrin.h>
#endif

#include "lif.h"

enum { LANES = 64 / sizeof(REAL), VECTORS = 4, TILE = LANES * VECTORS, PIXELS = 128, GROUPS = 4, LARGE = 1 << 20 };

typedef REAL Vector __attribute__((vector_size(64), aligned(sizeof(REAL)), may_alias));

typedef struct {
    int64_t B, H, W, C, N, out_H, out_W;
    int64_t kernel[2], stride[2], padding[2], dilation[2];
} Conv;

static inline int64_t words(int64_t C) { return (C + 63) / 64; }
static inline int64_t rows_of(const Conv *c) { return c->kernel[0] * c->kernel[1] * c->C; }
static inline int64_t tiles_of(const Conv *c) { return (c->N + TILE - 1) / TILE; }
static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Which of 64 bytes are not 0, the first one lowest. */
static inline uint64_t word_of(const uint8_t *bytes) {
#ifdef __AVX512BW__
    const __m512i all = _mm512_loadu_si512(bytes);
    return _mm512_test_epi8_mask(all, all);
#else
    uint64_t x = 0;
    for (int i = 0; i < 64; i++) x |= (uint64_t)(bytes[i] != 0) << i;
    return x;
#endif
}

/* 64 bytes from n numbers or bytes: 1 for a 1, 0 for a 0, 2 for others */
static inline void bytes_of(const REAL *s, const uint8_t *bytes, uint8_t *out, int n) {
    memset(out + n, 0, 64 - n);
    if (s)
        for (int i = 0; i < n; i++) out[i] = s[i] == (REAL)1 ? 1 : s[i] == (REAL)0 ? 0 : 2;
    else
        memcpy(out, bytes, n);
}

/* Spikes as bits, from REAL [P, C] or, where s is NULL, from bytes; ones: their number. Returns whether a value is neither 0 nor 1. */
int FN(bits_pack)(const REAL *s, const uint8_t *bytes, uint64_t *bits, int64_t P, int64_t C, int64_t *ones) {
    int64_t spikes = 0;
    int other = 0;
#pragma omp parallel for schedule(static) reduction(+ : spikes) reduction(| : other)
    for (int64_t p = 0; p < P; p++) {
        if (other) continue;
        for (int64_t at = 0; at < C; at += 64) {
            uint8_t part[64], most = 0;
            if (C - at >= 64)
                bytes_of(s ? s + p * C + at : NULL, bytes + p * C + at, part, 64);
            else
                bytes_of(s ? s + p * C + at : NULL, bytes + p * C + at, part, (int)(C - at));
            for (int i = 0; i < 64; i++) most |= part[i];
            const uint64_t word = word_of(part);
            other |= most > 1;
            spikes += __builtin_popcountll(word);
            bits[p * words(C) + at / 64] = word;
        }
    }
    *ones = spikes;
    return other;
}

void FN(bits_unpack)(const uint64_t *bits, REAL *s, int64_t P, int64_t C) {
#pragma omp parallel for schedule(static)
    for (int64_t p = 0; p < P; p++)
        for (int64_t at = 0; at < C; at += 64) {
            const uint64_t x = bits[p * words(C) + at / 64];
            REAL *out = s + p * C + at;
            const int n = (int)least(64, C - at);
            for (int i = 0; i < n; i++) out[i] = (REAL)(int)(x >> i & 1);
        }
}

/* numbers of a matrix in tiles, for one that has N columns */
int64_t FN(sparse_size)(const Conv *conv) { return rows_of(conv) * tiles_of(conv) * TILE; }

/* weight [N, C, K, K] -> tiles */
void FN(sparse_tiles)(const REAL *weight, REAL *tiles, const Conv *conv) {
    const int64_t K = conv->kernel[0] * conv->kernel[1], C = conv->C, N = conv->N, R = K * C, parts = (C + LANES - 1) / LANES;
#pragma omp parallel for schedule(static)
    for (int64_t part = 0; part < tiles_of(conv) * parts; part++) {
        const int64_t t = part / parts, first = part % parts * LANES, last = least(first + LANES, C);
        int64_t at[LANES * K];
        for (int64_t c = first; c < last; c++)
            for (int64_t k = 0; k < K; k++) at[(c - first) * K + k] = (k * C + c) * TILE;
        for (int64_t n = 0; n < TILE; n++) {
            const REAL *restrict in = weight + (t * TILE + n) * R + first * K;
            REAL *restrict out = tiles + t * R * TILE + n;
            if (t * TILE + n < N)
                for (int64_t i = 0; i < (last - first) * K; i++) out[at[i]] = in[i];
            else
                for (int64_t i = 0; i < (last - first) * K; i++) out[at[i]] = 0;
        }
    }
}

/* The sum of `groups` matrices of `size` numbers in tiles -> weight [N, C, K, K] */
static void from_tiles(const REAL *sums, int64_t groups, int64_t size, REAL *weight, const Conv *conv) {
    const int64_t K = conv->kernel[0] * conv->kernel[1], C = conv->C, N = conv->N, R = K * C, parts = (C + LANES - 1) / LANES;
#pragma omp for schedule(static)
    for (int64_t part = 0; part < tiles_of(conv) * parts; part++) {
        const int64_t t = part / parts, first = part % parts * LANES, last = least(first + LANES, C);
        REAL sum[TILE];
        for (int64_t c = first; c < last; c++)
            for (int64_t k = 0; k < K; k++) {
                const REAL *in = sums + (t * R + k * C + c) * TILE;
                for (int n = 0; n < TILE; n++) sum[n] = in[n];
                for (int64_t group = 1; group < groups; group++)
                    for (int n = 0; n < TILE; n++) sum[n] += in[group * size + n];
                for (int64_t n = 0; n < least(TILE, N - t * TILE); n++) weight[((t * TILE + n) * C + c) * K + k] = sum[n];
            }
    }
}

/* The rows that output pixel `pixel` picks, in order; returns their number. */
static inline int64_t picked(const Conv *conv, const uint64_t *bits, int64_t pixel, uint32_t *rows) {
    const int64_t b = pixel / (conv->out_H * conv->out_W), h = pixel / conv->out_W % conv->out_H, w = pixel % conv->out_W;
    const int64_t n_words = words(conv->C);
    uint32_t *out = rows;
    for (int64_t i = 0; i < conv->kernel[0]; i++) {
        const int64_t y = h * conv->stride[0] - conv->padding[0] + i * conv->dilation[0];
        if (y < 0 || y >= conv->H) continue;
        for (int64_t j = 0; j < conv->kernel[1]; j++) {
            const int64_t x = w * conv->stride[1] - conv->padding[1] + j * conv->dilation[1];
            if (x < 0 || x >= conv->W) continue;
            const uint64_t *in = bits + ((b * conv->H + y) * conv->W + x) * n_words;
            const uint32_t base = (uint32_t)((i * conv->kernel[1] + j) * conv->C);
            for (int64_t a = 0; a < n_words; a++)
                for (uint64_t left = in[a]; left; left &= left - 1) *out++ = base + 64 * (uint32_t)a + (uint32_t)__builtin_ctzll(left);
        }
    }
    return out - rows;
}

static inline __attribute__((always_inline)) void add_vectors(Vector *sum, const REAL *tile, const uint32_t *rows, int64_t n,
                                                              const int vectors) {
    Vector acc[VECTORS];
    for (int v = 0; v < vectors; v++) acc[v] = sum[v];
    for (int64_t i = 0; i < n; i++) {
        const Vector *row = (const Vector *)(tile + (int64_t)rows[i] * TILE);
        for (int v = 0; v < vectors; v++) acc[v] += row[v];
    }
    for (int v = 0; v < vectors; v++) sum[v] = acc[v];
}

/* sum of the rows of a tile, added to `sum`, in the first columns */
static inline void add_rows(Vector *sum, const REAL *tile, const uint32_t *rows, int64_t n, int64_t columns) {
    if (columns > TILE / 2)
        add_vectors(sum, tile, rows, n, VECTORS);
    else
        add_vectors(sum, tile, rows, n, VECTORS / 2);
}

/* out [B, out_H, out_W, N]; bias [N] or NULL. Returns 0, or 1 when memory is out. */
int FN(sparse_forward)(const uint64_t *bits, const REAL *tiles, const REAL *bias, REAL *out, const Conv *conv) {
    const int64_t R = rows_of(conv), N = conv->N, P = conv->B * conv->out_H * conv->out_W;
    int failed = 0;
#pragma omp parallel reduction(| : failed)
    {
        uint32_t *rows = malloc(sizeof(uint32_t) * R * PIXELS);
        if (!rows) failed = 1;
#pragma omp for schedule(dynamic)
        for (int64_t first = 0; first < P; first += PIXELS) {
            if (!rows) continue;
            const int n = (int)least(PIXELS, P - first);
            int64_t start[PIXELS + 1] = {0};
            for (int p = 0; p < n; p++) start[p + 1] = start[p] + picked(conv, bits, first + p, rows + start[p]);
            for (int64_t t = 0; t < tiles_of(conv); t++) {
                const int64_t columns = least(TILE, N - t * TILE);
                REAL initial[TILE] = {0};
                if (bias) memcpy(initial, bias + t * TILE, sizeof(REAL) * columns);
                for (int p = 0; p < n; p++) {
                    Vector sum[VECTORS];
                    memcpy(sum, initial, sizeof sum);
                    add_rows(sum, tiles + t * R * TILE, rows + start[p], start[p + 1] - start[p], columns);
                    memcpy(out + (first + p) * N + t * TILE, sum, sizeof(REAL) * columns);
                }
            }
        }
        free(rows);
    }
    return failed;
}

/* Gradient of the weight [N, C, K, K] from that of the output [B, out_H, out_W, N]. Returns 0, or 1 when memory is out. */
int FN(sparse_weight)(const uint64_t *bits, const REAL *grad, REAL *out, const Conv *conv) {
    enum { BLOCK = 2 * PIXELS };
    const int64_t R = rows_of(conv), N = conv->N, T = tiles_of(conv);
    const int64_t P = conv->B * conv->out_H * conv->out_W, blocks = (P + BLOCK - 1) / BLOCK, size = R * T * TILE;
    /* of pixels, summed apart, and of tiles; large weights have few of the former, for the sake of memory */
    const int64_t groups = size > LARGE ? 1 : least(GROUPS, blocks), splits = least(T, GROUPS / groups);
    REAL *sums = calloc(size * groups, sizeof(REAL));
    int failed = 0;
#pragma omp parallel reduction(| : failed)
    {
        /* what each pixel picks, and for each row who picked it */
        uint32_t *rows = malloc(sizeof(uint32_t) * R * BLOCK), *pickers = malloc(sizeof(uint32_t) * R * BLOCK);
        uint32_t *start = malloc(sizeof(uint32_t) * (R + 2));
        REAL *part = malloc(sizeof(REAL) * BLOCK * TILE);
        if (!sums || !rows || !pickers || !start || !part) failed = 1;
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < groups * splits; task++) {
            const int64_t group = task / splits, split = task % splits;
            if (failed) continue;
            for (int64_t block = blocks * group / groups; block < blocks * (group + 1) / groups; block++) {
                const int64_t first = block * BLOCK;
                const int n = (int)least(BLOCK, P - first);
                int64_t of_pixel[BLOCK + 1] = {0};
                for (int p = 0; p < n; p++) of_pixel[p + 1] = of_pixel[p] + picked(conv, bits, first + p, rows + of_pixel[p]);
                memset(start, 0, sizeof(uint32_t) * (R + 2));
                for (int64_t i = 0; i < of_pixel[n]; i++) start[rows[i] + 2]++;
                for (int64_t r = 0; r < R; r++) start[r + 2] += start[r + 1];
                for (int p = 0; p < n; p++)
                    for (int64_t i = of_pixel[p]; i < of_pixel[p + 1]; i++) pickers[start[rows[i] + 1]++] = (uint32_t)p;
                for (int64_t t = T * split / splits; t < T * (split + 1) / splits; t++) {
                    const int64_t columns = least(TILE, N - t * TILE);
                    if (columns < TILE) memset(part, 0, sizeof(REAL) * BLOCK * TILE);
                    for (int p = 0; p < n; p++)
                        memcpy(part + p * TILE, grad + (first + p) * N + t * TILE, sizeof(REAL) * columns);
                    REAL *sum = sums + group * size + t * R * TILE;
                    for (int64_t r = 0; r < R; r++)
                        if (start[r + 1] > start[r])
                            add_vectors((Vector *)(sum + r * TILE), part, pickers + start[r], start[r + 1] - start[r], VECTORS);
                }
            }
        }
        free(rows);
        free(pickers);
        free(start);
        free(part);
    }
    if (!failed) {
#pragma omp parallel
        from_tiles(sums, groups, size, out, conv);
    }
    free(sums);
    return failed;
}
