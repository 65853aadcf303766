/* Gradients of 3x3 convolutions of stride 1 with a quarter of the products, on the CPU: Winograd's F(4x4, 3x3).
 *
 * Lavin and Gray, arXiv 1509.09308. A tile of 4 x 4 pixels of the output sees 6 x 6 of the input. Both are transformed, together
 * with the weight, so that the convolution becomes a product for each of 36 points: matrices of tiles x channels times channels
 * x channels. Images are [B, H, W, groups * channels], channels innermost. Sums do not depend on the number of threads.
 *
 * Compiled with contraction of multiply and add, unlike the other files.
 */
#include <string.h>

#include "lif.h"

enum { LANES = 64 / sizeof(REAL), VECTORS = 4, WIDTH = LANES * VECTORS, POINTS = 36, ROWS = 24, CACHE = 1 << 20 };

typedef REAL Vector __attribute__((vector_size(64), aligned(sizeof(REAL)), may_alias));

/* Of a convolution: input [B, H, W, groups * C], output [B, out_H, out_W, groups * N], both `padding` apart */
typedef struct {
    int64_t B, H, W, C, N, groups, padding[2];
} Images;

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t up(int64_t n) { return (n + LANES - 1) / LANES * LANES; }
static inline int64_t out_of(const Images *s, int axis) { return (axis ? s->W : s->H) + 2 * s->padding[axis] - 2; }
/* Tiles that are taken in one go, so that their matrices of so many columns fit into a cache */
static inline int64_t block_of(int64_t columns) {
    const int64_t n = CACHE / (int64_t)(sizeof(REAL) * POINTS * columns) / ROWS * ROWS;
    return n < 2 * ROWS ? 2 * ROWS : n > 8 * ROWS ? 8 * ROWS : n;
}
/* Numbers between the matrices of two points: no power of two, for the sake of the cache */
static inline int64_t apart(int64_t rows, int64_t columns) { return rows * columns + LANES; }
static inline int64_t tiles_along(const Images *s, int axis) { return (out_of(s, axis) + 3) / 4; }

int FN(winograd_pays)(void) {
#ifdef __AVX512F__
    return 1;
#else
    return 0; /* with fewer registers the products below are not quick */
#endif
}

static inline Vector part_of(const REAL *from, int64_t n) {
    Vector v = {0};
    if (n >= LANES)
        memcpy(&v, from, sizeof v);
    else
        memcpy(&v, from, sizeof(REAL) * n);
    return v;
}

static inline void keep(REAL *to, Vector v, int64_t n) {
    if (n >= LANES)
        memcpy(to, &v, sizeof v);
    else
        memcpy(to, &v, sizeof(REAL) * n);
}

/* The transforms along one axis: of the input (6 -> 6), of the output (6 -> 4), of an output's gradient (4 -> 6), of the weight
 * (3 -> 6) and of its gradient (6 -> 3). */
static inline void input_6(const Vector *d, int64_t s, Vector *o, int64_t t) {
    const Vector a = d[4 * s] - d[2 * s] * (REAL)4, b = d[3 * s] - d[s] * (REAL)4;
    const Vector e = d[4 * s] - d[2 * s], f = (d[3 * s] - d[s]) * (REAL)2;
    o[0] = d[0] * (REAL)4 - d[2 * s] * (REAL)5 + d[4 * s];
    o[t] = a + b;
    o[2 * t] = a - b;
    o[3 * t] = e + f;
    o[4 * t] = e - f;
    o[5 * t] = d[s] * (REAL)4 - d[3 * s] * (REAL)5 + d[5 * s];
}

static inline void output_4(const Vector *m, int64_t s, Vector *o, int64_t t) {
    const Vector a = m[s] + m[2 * s], b = m[s] - m[2 * s], e = m[3 * s] + m[4 * s], f = m[3 * s] - m[4 * s];
    o[0] = m[0] + a + e;
    o[t] = b + f * (REAL)2;
    o[2 * t] = a + e * (REAL)4;
    o[3 * t] = b + f * (REAL)8 + m[5 * s];
}

static inline void output_gradient_6(const Vector *g, int64_t s, Vector *o, int64_t t) {
    const Vector a = g[0] + g[2 * s], b = g[s] + g[3 * s];
    const Vector e = g[0] + g[2 * s] * (REAL)4, f = g[s] * (REAL)2 + g[3 * s] * (REAL)8;
    o[0] = g[0];
    o[t] = a + b;
    o[2 * t] = a - b;
    o[3 * t] = e + f;
    o[4 * t] = e - f;
    o[5 * t] = g[3 * s];
}

static inline void weight_6(const Vector *g, int64_t s, Vector *o, int64_t t) {
    const Vector a = (g[0] + g[2 * s]) * (REAL)(-1.0 / 6), b = g[s] * (REAL)(-1.0 / 6);
    const Vector e = g[0] * (REAL)(1.0 / 24) + g[2 * s] * (REAL)(1.0 / 6), f = g[s] * (REAL)(1.0 / 12);
    o[0] = g[0] * (REAL)0.25;
    o[t] = a + b;
    o[2 * t] = a - b;
    o[3 * t] = e + f;
    o[4 * t] = e - f;
    o[5 * t] = g[2 * s];
}

static inline void weight_gradient_3(const Vector *m, int64_t s, Vector *o, int64_t t) {
    const Vector a = m[s] + m[2 * s], b = m[s] - m[2 * s], e = m[3 * s] + m[4 * s], f = m[3 * s] - m[4 * s];
    o[0] = m[0] * (REAL)0.25 - a * (REAL)(1.0 / 6) + e * (REAL)(1.0 / 24);
    o[t] = f * (REAL)(1.0 / 12) - b * (REAL)(1.0 / 6);
    o[2 * t] = (e - a) * (REAL)(1.0 / 6) + m[5 * s];
}

/* c = or += a b, where a[r, k] = a[r * a_row + k * a_k] has n rows, or a few more, and b [K, *] has rows b_k apart */
static inline __attribute__((always_inline)) void product_of(const REAL *a, int64_t a_row, int64_t a_k, const REAL *b,
                                                             int64_t b_k, int64_t K, REAL *c, int64_t c_row, int64_t n,
                                                             const int rows, const int vectors, int add) {
    for (int64_t first = 0; first < n; first += rows, a += rows * a_row, c += rows * c_row) {
        Vector sum[ROWS][VECTORS];
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < vectors; v++) sum[r][v] = add ? part_of(c + r * c_row + v * LANES, LANES) : (Vector){0};
        for (int64_t k = 0; k < K; k++) {
            Vector column[VECTORS];
            for (int v = 0; v < vectors; v++) column[v] = part_of(b + k * b_k + v * LANES, LANES);
            for (int r = 0; r < rows; r++)
                for (int v = 0; v < vectors; v++) sum[r][v] += a[r * a_row + k * a_k] * column[v];
        }
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < vectors; v++) keep(c + r * c_row + v * LANES, sum[r][v], LANES);
    }
}

static void product(const REAL *a, int64_t a_row, int64_t a_k, const REAL *b, int64_t b_k, int64_t K, REAL *c, int64_t c_row,
                    int64_t n, int64_t width, int add) {
    if (width == WIDTH)
        product_of(a, a_row, a_k, b, b_k, K, c, c_row, n, 6, 4, add);
    else if (width == 3 * LANES)
        product_of(a, a_row, a_k, b, b_k, K, c, c_row, n, 8, 3, add);
    else if (width == 2 * LANES)
        product_of(a, a_row, a_k, b, b_k, K, c, c_row, n, 12, 2, add);
    else
        product_of(a, a_row, a_k, b, b_k, K, c, c_row, n, 12, 1, add);
}

/* numbers of the transformed weight of a convolution from C to N channels */
int64_t FN(winograd_size)(const Images *s) { return s->groups * POINTS * s->C * up(s->N); }

/* weight [groups * C, N, 3, 3] of a convolution -> that of the gradient of its input, which goes from C to N channels:
 * [groups, 36, strips of WIDTH columns, C, columns] */
void FN(winograd_weight)(const REAL *weight, REAL *out, const Images *s) {
    const int64_t C = s->C, N = s->N, width = up(N);
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < s->groups * C; row++) {
        const int64_t group = row / C, c = row % C;
        for (int64_t n = 0; n < width; n += LANES) {
            Vector g[9] = {0}, half[18], all[POINTS];
            for (int64_t i = 0; i < least(LANES, N - n); i++)
                for (int k = 0; k < 9; k++) g[8 - k][i] = weight[(row * N + n + i) * 9 + k];
            for (int j = 0; j < 3; j++) weight_6(g + j, 3, half + j, 3);
            for (int i = 0; i < 6; i++) weight_6(half + 3 * i, 1, all + 6 * i, 1);
            const int64_t strip = n / WIDTH * WIDTH, columns = least(WIDTH, width - strip);
            for (int p = 0; p < POINTS; p++)
                keep(out + ((group * POINTS + p) * width + strip) * C + c * columns + n - strip, all[p], LANES);
        }
    }
}

/* A tile of an image [H, W, channels] that begins at the pixel (y, x), `side` wide, zero outside */
static inline void tile_of(const REAL *image, int64_t H, int64_t W, int64_t channels, int64_t y, int64_t x, int side, int64_t n,
                           Vector *out) {
    for (int i = 0; i < side; i++)
        for (int j = 0; j < side; j++) {
            const int inside = y + i >= 0 && y + i < H && x + j >= 0 && x + j < W;
            out[i * side + j] = inside ? part_of(image + ((y + i) * W + x + j) * channels, n) : (Vector){0};
        }
}

/* Tile number `tile` of the input, transformed, to out, where points are `step` numbers apart */
static void tile_in(const Images *s, const REAL *x, int64_t group, int64_t tile, REAL *out, int64_t step) {
    const int64_t across = tiles_along(s, 1), down = tiles_along(s, 0), channels = s->groups * s->C;
    const REAL *image = x + tile / (across * down) * s->H * s->W * channels + group * s->C;
    const int64_t y = tile / across % down * 4 - s->padding[0], z = tile % across * 4 - s->padding[1];
    for (int64_t c = 0; c < s->C; c += LANES) {
        Vector d[36], half[36], all[36];
        tile_of(image + c, s->H, s->W, channels, y, z, 6, s->C - c, d);
        for (int j = 0; j < 6; j++) input_6(d + j, 6, half + j, 6);
        for (int i = 0; i < 6; i++) input_6(half + 6 * i, 1, all + 6 * i, 1);
        for (int p = 0; p < POINTS; p++) keep(out + p * step + c, all[p], LANES);
    }
}

/* out of x and the weight as winograd_weight gives it. Returns 0, or 1 when memory is out. */
int FN(winograd_conv)(const REAL *x, const REAL *weight, REAL *out, const Images *s) {
    const int64_t across = tiles_along(s, 1), down = tiles_along(s, 0), tiles = s->B * across * down;
    const int64_t H = out_of(s, 0), W = out_of(s, 1), C = s->C, N = s->N, row = up(C), width = up(N);
    const int64_t block = block_of(row + width), blocks = (tiles + block - 1) / block;
    const int64_t in_step = apart(block, row), out_step = apart(block, width);
    int failed = 0;
#pragma omp parallel reduction(| : failed)
    {
        REAL *in = malloc(sizeof(REAL) * POINTS * (in_step + out_step)), *results = in + POINTS * in_step;
        if (!in) failed = 1;
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < s->groups * blocks; task++) {
            if (!in) continue;
            const int64_t group = task / blocks, first = task % blocks * block, n = least(block, tiles - first);
            for (int64_t t = 0; t < n; t++) tile_in(s, x, group, first + t, in + t * row, in_step);
            for (int p = 0; p < POINTS; p++)
                for (int64_t strip = 0; strip < width; strip += WIDTH) {
                    const int64_t columns = least(WIDTH, width - strip);
                    const REAL *b = weight + ((group * POINTS + p) * width + strip) * C;
                    product(in + p * in_step, row, 1, b, columns, C, results + p * out_step + strip, width, n, columns, 0);
                }
            for (int64_t t = 0; t < n; t++) {
                const int64_t tile = first + t, y = tile / across % down * 4, z = tile % across * 4;
                REAL *image = out + tile / (across * down) * H * W * s->groups * N + group * N;
                for (int64_t c = 0; c < N; c += LANES) {
                    Vector m[36], half[24], all[16];
                    for (int p = 0; p < POINTS; p++) m[p] = part_of(results + p * out_step + t * width + c, LANES);
                    for (int j = 0; j < 6; j++) output_4(m + j, 6, half + j, 6);
                    for (int i = 0; i < 4; i++) output_4(half + 6 * i, 1, all + 4 * i, 1);
                    for (int i = 0; i < least(4, H - y); i++)
                        for (int j = 0; j < least(4, W - z); j++)
                            keep(image + ((y + i) * W + z + j) * s->groups * N + c, all[4 * i + j], N - c);
                }
            }
        }
        free(in);
    }
    return failed;
}

/* Gradient of the weight [groups * N, C, 3, 3] from the input x and the gradient of the output. Returns 0, or 1 when memory is
 * out. */
int FN(winograd_weight_gradient)(const REAL *x, const REAL *grad, REAL *out, const Images *s) {
    const int64_t across = tiles_along(s, 1), down = tiles_along(s, 0), tiles = s->B * across * down;
    const int64_t H = out_of(s, 0), W = out_of(s, 1), C = s->C, N = s->N, row = up(C), column = (N + ROWS - 1) / ROWS * ROWS;
    const int64_t block = block_of(row + column), step = apart(column, row);
    const int64_t in_step = apart(block, row), back_step = apart(block, column);
    REAL *in = malloc(sizeof(REAL) * POINTS * in_step), *back = calloc(POINTS * back_step, sizeof(REAL));
    REAL *sums = malloc(sizeof(REAL) * POINTS * step);
    const int failed = !in || !back || !sums;
    for (int64_t group = 0; group < (failed ? 0 : s->groups); group++) {
        for (int64_t first = 0; first < tiles; first += block) {
            const int64_t n = least(block, tiles - first);
#pragma omp parallel
            {
#pragma omp for schedule(static)
                for (int64_t t = 0; t < n; t++) {
                    const int64_t tile = first + t, y = tile / across % down * 4, z = tile % across * 4;
                    const REAL *image = grad + tile / (across * down) * H * W * s->groups * N + group * N;
                    tile_in(s, x, group, tile, in + t * row, in_step);
                    for (int64_t c = 0; c < N; c += LANES) {
                        Vector g[16], half[24], all[36];
                        tile_of(image + c, H, W, s->groups * N, y, z, 4, N - c, g);
                        for (int j = 0; j < 4; j++) output_gradient_6(g + j, 4, half + j, 4);
                        for (int i = 0; i < 6; i++) output_gradient_6(half + 4 * i, 1, all + 6 * i, 1);
                        for (int p = 0; p < POINTS; p++) keep(back + p * back_step + t * column + c, all[p], column - c);
                    }
                }
#pragma omp for schedule(dynamic)
                for (int64_t p = 0; p < POINTS; p++)
                    for (int64_t strip = 0; strip < row; strip += WIDTH)
                        product(back + p * back_step, 1, column, in + p * in_step + strip, row, n, sums + p * step + strip, row,
                                N, least(WIDTH, row - strip), first > 0);
            }
        }
#pragma omp parallel for schedule(static)
        for (int64_t n = 0; n < N; n++)
            for (int64_t c = 0; c < C; c += LANES) {
                Vector m[36], half[18], all[9];
                for (int p = 0; p < POINTS; p++) m[p] = part_of(sums + p * step + n * row + c, LANES);
                for (int j = 0; j < 6; j++) weight_gradient_3(m + j, 6, half + j, 6);
                for (int i = 0; i < 3; i++) weight_gradient_3(half + 6 * i, 1, all + 3 * i, 1);
                for (int64_t i = 0; i < least(LANES, C - c); i++)
                    for (int k = 0; k < 9; k++) out[((group * N + n) * C + c + i) * 9 + k] = all[k][i];
            }
    }
    free(in);
    free(back);
    free(sums);
    return failed;
}
