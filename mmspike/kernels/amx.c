/* Convolutions of spikes on the matrix units of the CPU (Intel AMX, bfloat16), accurate to float32.

A spike count below 256 is a bfloat16. A float is the sum of three bfloat16 of 8 bits each. Products of bfloat16 are exact in
float32, and so are added up: counts times weights take three passes, floats times floats six. One pass is about sixteen
times as fast as a convolution in float32.

Images are [B, H, W, C] with square kernels, stride 1 and k / 2 rows of zeros around. Work is dealt out in chunks of rows, which
are split into bfloat16 in the cache of the core that takes them. Pixels of a chunk are counted along rows of W + k - 1, so
that tap (ky, kx) of the kernel finds its input ky * (W + k - 1) + kx pixels ahead of the output. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AMX_BF16__) && defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__linux__)
#include <immintrin.h>
#include <omp.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef uint16_t bf16;
enum { TILE = 512 }; /* elements of a tile: 16 rows of 32 */
enum { STEPS = 8 };  /* tiles of a sum over pixels that are taken in one go */
enum { CACHE = 1 << 20 };

static inline int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

int amx_start(void) { return syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* XTILEDATA */) == 0; }

typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} Tiles;

static void tiles_begin(Tiles *before) {
    Tiles all = {.palette = 1};
    for (int i = 0; i < 8; i++) all.bytes[i] = 64, all.rows[i] = 16;
    _tile_storeconfig(before);
    _tile_loadconfig(&all);
}

/* The first bfloat16 of 16 floats, which are left with the rest. */
static inline __m256i split(__m512 *x) {
    __m256i head = (__m256i)_mm512_cvtneps_pbh(*x);
    *x = _mm512_sub_ps(*x, _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(head), 16)));
    return head;
}

static inline __m256i counts_to_bf16(__m128i counts) {
    __m512i bits = _mm512_castps_si512(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(counts)));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(bits, 16));
}

static inline __mmask16 first(int64_t n) { return n >= 16 ? 0xffff : n <= 0 ? 0 : (__mmask16)((1u << n) - 1); }

/* One pixel, C values of x (floats, or counts of one byte), as `terms` bfloat16 in blocks of 32 channels. A null pointer is
zero. Blocks are `block` elements apart, terms `term`. */
static void split_pixel(const char *x, int counts, int64_t C, int terms, bf16 *out, int64_t block, int64_t term) {
    for (int64_t c = 0; c < up(C, 32); c += 16) {
        bf16 *to = out + c / 32 * block + c % 32;
        __mmask16 m = first(C - c);
        if (!x) {
            for (int t = 0; t < terms; t++) _mm256_storeu_si256((void *)(to + t * term), _mm256_setzero_si256());
        } else if (counts) {
            _mm256_storeu_si256((void *)to, counts_to_bf16(_mm_maskz_loadu_epi8(m, x + c)));
        } else {
            __m512 v = _mm512_maskz_loadu_ps(m, (const float *)x + c);
            for (int t = 0; t < terms; t++) _mm256_storeu_si256((void *)(to + t * term), split(&v));
        }
    }
}

/* Rows y0 - p to y1 + p of an image. */
static void split_rows(const char *x, int counts, int64_t y0, int64_t y1, int64_t H, int64_t W, int64_t C, int p, int terms,
                       bf16 *out, int64_t block, int64_t term) {
    int64_t size = counts ? 1 : 4;
    for (int64_t y = y0 - p; y < y1 + p; y++)
        for (int64_t i = -p; i < W + p; i++, out += 32) {
            int inside = y >= 0 && y < H && i >= 0 && i < W;
            split_pixel(inside ? x + (y * W + i) * C * size : NULL, counts, C, terms, out, block, term);
        }
}

/* About 512 pixels, or fewer so that `bytes` for each of them stay in the second cache, and as many chunks for every thread. */
static int64_t chunk_rows(int64_t B, int64_t H, int64_t W, int p, int64_t bytes) {
    int64_t pixels = CACHE / bytes < 512 ? CACHE / bytes : 512, rows = pixels / (W + 2 * p);
    if (rows < 2 * p + 1) rows = 2 * p + 1;
    if (B == 1) rows = (H - 1) / up((H - 1) / rows + 1, omp_get_max_threads()) + 1;
    return rows < H ? rows : H;
}

int64_t amx_weight_size(int64_t K, int64_t N, int64_t k, int terms) {
    return up(N, 32) / 32 * k * k * (up(K, 32) / 32) * terms * 2 * TILE;
}

/* Weights as tiles in the order in which amx_conv reads them. From w[k * sk + n * sn + ky * sy + kx * sx]. */
void amx_weight(const float *w, bf16 *out, int64_t K, int64_t N, int64_t k, int64_t sk, int64_t sn, int64_t sy, int64_t sx,
                int terms) {
    int64_t blocks = up(K, 32) / 32;
    __m512i count = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    __m512i steps = _mm512_mullo_epi32(count, _mm512_set1_epi32((int)sn));
#pragma omp parallel for
    for (int64_t nb = 0; nb < up(N, 32) / 32; nb++)
        for (int64_t kb = 0; kb < blocks; kb++)
            for (int64_t tap = 0; tap < k * k; tap++) {
                bf16 *tiles = out + ((nb * blocks + kb) * k * k + tap) * terms * 2 * TILE;
                for (int64_t half = 0; half < 2; half++)
                    for (int64_t row = 0; row < 32; row += 2) {
                        int64_t ki = kb * 32 + row, n = nb * 32 + half * 16;
                        const float *from = w + ki * sk + n * sn + tap / k * sy + tap % k * sx;
                        __m512 v[2];
                        for (int i = 0; i < 2; i++) {
                            __mmask16 mask = ki + i < K ? first(N - n) : 0;
                            v[i] = _mm512_mask_i32gather_ps(_mm512_setzero_ps(), mask, steps, from + i * sk, 4);
                        }
                        for (int t = 0; t < terms; t++) {
                            __m512i lo = _mm512_cvtepu16_epi32(split(&v[0])), hi = _mm512_cvtepu16_epi32(split(&v[1]));
                            bf16 *to = tiles + (t * 2 + half) * TILE + row * 16;
                            _mm512_storeu_si512(to, _mm512_or_si512(lo, _mm512_slli_epi32(hi, 16)));
                        }
                    }
            }
}

/* out [B, H, W, N] = scale * (x * weights) + bias; terms of x and w whose numbers add up to less than w_terms are multiplied. */
int amx_conv(const char *x, int counts, int x_terms, const bf16 *weight, int w_terms, const float *bias, float scale, float *out,
             int64_t B, int64_t H, int64_t W, int64_t C, int64_t N, int64_t k) {
    int p = (int)k / 2, failed = 0;
    int64_t Wp = W + 2 * p, blocks = up(C, 32) / 32, rows = chunk_rows(B, H, W, p, blocks * 64 * x_terms);
    int64_t chunks = (H + rows - 1) / rows;
    /* of the weights, so much at a time as stays in the first cache */
    int64_t taps = k * k, per_part = 12 / w_terms, parts = (taps * blocks - 1) / per_part + 1;
    int64_t block = ((rows + 2 * p) * Wp + 32 + 2 * p) * 32, term = blocks * block, size = counts ? 1 : 4;
#pragma omp parallel reduction(| : failed)
    {
        Tiles before;
        tiles_begin(&before);
        bf16 *a = aligned_alloc(64, up(x_terms * term * 2, 64));
        float *sums = aligned_alloc(64, up(rows * Wp, 32) * 128);
        failed = !a || !sums;
#pragma omp for schedule(dynamic)
        for (int64_t job = 0; job < B * chunks; job++) {
            if (failed) continue;
            int64_t b = job / chunks, y0 = job % chunks * rows, y1 = y0 + rows < H ? y0 + rows : H;
            split_rows(x + b * H * W * C * size, counts, y0, y1, H, W, C, p, x_terms, a, block, term);
            for (int64_t nb = 0; nb < up(N, 32) / 32; nb++)
                for (int64_t part = 0; part < parts; part++)
                    for (int64_t m = 0; m < (y1 - y0) * Wp; m += 32) {
                        float *sum = sums + m * 32;
                        int64_t q1 = (part + 1) * per_part < taps * blocks ? (part + 1) * per_part : taps * blocks;
                        if (part) {
                            _tile_loadd(0, sum, 128);
                            _tile_loadd(1, sum + 16, 128);
                            _tile_loadd(2, sum + 512, 128);
                            _tile_loadd(3, sum + 528, 128);
                        } else {
                            _tile_zero(0);
                            _tile_zero(1);
                            _tile_zero(2);
                            _tile_zero(3);
                        }
                        for (int64_t q = part * per_part; q < q1; q++) {
                            const bf16 *w = weight + (nb * taps * blocks + q) * w_terms * 2 * TILE;
                            int64_t kb = q / taps, tap = q % taps;
                            for (int i = 0; i < x_terms; i++) {
                                const bf16 *from = a + i * term + kb * block + (m + tap / k * Wp + tap % k) * 32;
                                _tile_loadd(4, from, 64);
                                _tile_loadd(5, from + TILE, 64);
                                for (int j = 0; i + j < w_terms; j++) {
                                    _tile_loadd(6, w + j * 2 * TILE, 64);
                                    _tile_dpbf16ps(0, 4, 6);
                                    _tile_dpbf16ps(2, 5, 6);
                                    _tile_loadd(7, w + j * 2 * TILE + TILE, 64);
                                    _tile_dpbf16ps(1, 4, 7);
                                    _tile_dpbf16ps(3, 5, 7);
                                }
                            }
                        }
                        _tile_stored(0, sum, 128);
                        _tile_stored(1, sum + 16, 128);
                        _tile_stored(2, sum + 512, 128);
                        _tile_stored(3, sum + 528, 128);
                        if (part + 1 < parts) continue;
                        __m512 s = _mm512_set1_ps(scale), zero = _mm512_setzero_ps();
                        for (int64_t half = 0; half < 2; half++) {
                            int64_t n = nb * 32 + half * 16;
                            __mmask16 mask = first(N - n);
                            __m512 add = bias ? _mm512_maskz_loadu_ps(mask, bias + n) : zero;
                            int64_t y = m / Wp, i = m % Wp;
                            for (int64_t r = 0; r < 32 && y0 + y < y1; r++) {
                                if (i < W) {
                                    __m512 v = _mm512_load_ps(sum + r * 32 + half * 16);
                                    _mm512_mask_storeu_ps(out + ((b * H + y0 + y) * W + i) * N + n, mask, _mm512_fmadd_ps(v, s, add));
                                }
                                if (++i == Wp) i = 0, y++;
                            }
                        }
                    }
            }
        free(a);
        free(sums);
        _tile_loadconfig(&before);
    }
    return failed;
}

/* 16 pixels of 16 counts each, `stride` bytes apart, as 16 rows of 16 bfloat16 `to_stride` apart. */
static void transpose_counts(const uint8_t *x, int64_t stride, int pixels, __mmask16 mask, bf16 *to, int64_t to_stride) {
    __m128i a[16], b[16];
    for (int i = 0; i < 16; i++) a[i] = i < pixels ? _mm_maskz_loadu_epi8(mask, x + i * stride) : _mm_setzero_si128();
    for (int stage = 0; stage < 4; stage++) { /* each interleaves row i with row i + 8 */
        for (int i = 0; i < 8; i++) {
            b[2 * i] = _mm_unpacklo_epi8(a[i], a[i + 8]);
            b[2 * i + 1] = _mm_unpackhi_epi8(a[i], a[i + 8]);
        }
        memcpy(a, b, sizeof a);
    }
    for (int i = 0; i < 16; i++) _mm256_storeu_si256((void *)(to + i * to_stride), counts_to_bf16(a[i]));
}

/* Gradient [N, C, k, k] of the weight: counts x [B, H, W, C] against g [B, H, W, N], times scale. */
int amx_conv_weight(const uint8_t *x, const float *g, float scale, float *out, int64_t B, int64_t H, int64_t W, int64_t C, int64_t N,
                    int64_t k, int terms) {
    int p = (int)k / 2, failed = 0, threads = 1, used_sums = 1;
    int64_t Wp = W + 2 * p, taps = k * k, Cp = up(C, 32), Np = up(N, 32), sum = taps * Cp * Np;
    int64_t rows = chunk_rows(B, H, W, p, (Cp + terms * Np) * 2), chunks = (H + rows - 1) / rows;
    int64_t steps = up(rows * Wp, 32) / 32, pitch = up((rows + 2 * p) * Wp + 32 + 2 * p, 64) + 32;
    float *sums = NULL;
#pragma omp parallel reduction(| : failed)
    {
#pragma omp single
        {
            threads = omp_get_num_threads();
            /* static: these threads have a job at least */
            used_sums = threads < B * chunks ? threads : (int)(B * chunks);
            sums = aligned_alloc(64, (size_t)threads * sum * 4);
        }
        Tiles before;
        tiles_begin(&before);
        float *own = sums ? sums + omp_get_thread_num() * sum : NULL;
        bf16 *a = aligned_alloc(64, up(Cp * pitch * 2, 64)), *b = aligned_alloc(64, Np / 16 * terms * steps * TILE * 2);
        failed = !own || !a || !b;
        if (!failed) memset(a + up(C, 16) * pitch, 0, (Cp - up(C, 16)) * pitch * 2);
        int first_job = 1;
#pragma omp for schedule(static)
        for (int64_t job = 0; job < B * chunks; job++) {
            if (failed) continue;
            int64_t image = job / chunks, y0 = job % chunks * rows, y1 = y0 + rows < H ? y0 + rows : H;
            const uint8_t *xi = x + image * H * W * C;
            const float *gi = g + image * H * W * N;
            int64_t used = up((y1 - y0) * Wp, 32) / 32;
            /* x: a row of pixels for each channel, zeros around the image and behind it */
            for (int64_t c = 0; c < C; c += 16) {
                /* without a border all rows are one */
                int64_t row = p ? 1 : y1 - y0;
                for (int64_t y = y0 - p; y < y1 + p; y += row) {
                    bf16 *to = a + c * pitch + (y - y0 + p) * Wp;
                    if (y < 0 || y >= H) {
                        for (int r = 0; r < 16; r++) memset(to + r * pitch, 0, Wp * 2);
                        continue;
                    }
                    /* 16 pixels at a time; what is written beyond the row's end is overwritten by the next */
                    for (int64_t i = 0; i < row * W; i += 16) {
                        int pixels = row * W - i < 16 ? (int)(row * W - i) : 16;
                        transpose_counts(xi + (y * W + i) * C + c, C, pixels, first(C - c), to + p + i, pitch);
                    }
                    for (int r = 0; r < 16; r++)
                        for (int i = 0; i < p; i++) to[r * pitch + i] = to[r * pitch + Wp - 1 - i] = 0;
                }
                for (int r = 0; r < 16; r++) {
                    int64_t end = (y1 - y0 + 2 * p) * Wp;
                    memset(a + (c + r) * pitch + end, 0, (pitch - end) * 2);
                }
            }
            /* g: tiles of 32 pixels in pairs, 16 channels */
            for (int64_t n = 0; n < Np; n += 16) {
                bf16 *to = b + n / 16 * terms * steps * TILE;
                __mmask16 mask = first(N - n);
                int64_t y = y0, i = 0;
                for (int64_t pair = 0; pair < used * 16; pair++) {
                    __m512 v[2];
                    for (int h = 0; h < 2; h++) {
                        int inside = y < y1 && i < W;
                        v[h] = inside ? _mm512_maskz_loadu_ps(mask, gi + (y * W + i) * N + n) : _mm512_setzero_ps();
                        if (++i == Wp) i = 0, y++;
                    }
                    for (int t = 0; t < terms; t++) {
                        __m512i lo = _mm512_cvtepu16_epi32(split(&v[0])), hi = _mm512_cvtepu16_epi32(split(&v[1]));
                        _mm512_storeu_si512(to + t * steps * TILE + pair * 32, _mm512_or_si512(lo, _mm512_slli_epi32(hi, 16)));
                    }
                }
            }
            /* so many steps of g at a time as stay in the first cache */
            for (int64_t n = 0; n < Np; n += 32)
                for (int64_t s0 = 0; s0 < used; s0 += STEPS)
                    for (int64_t c = 0; c < Cp; c += 32)
                        for (int64_t tap = 0; tap < taps; tap++) {
                            float *to = own + ((tap * Cp + c) * Np + n * 32); /* 32 x 32 in one piece */
                            const bf16 *from = a + c * pitch + tap / k * Wp + tap % k;
                            const bf16 *left = b + n / 16 * terms * steps * TILE, *right = left + terms * steps * TILE;
                            if (s0 || !first_job) {
                                _tile_loadd(0, to, 128); _tile_loadd(1, to + 16, 128);
                                _tile_loadd(2, to + 512, 128); _tile_loadd(3, to + 528, 128);
                            } else {
                                _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
                            }
                            for (int64_t step = s0; step < used && step < s0 + STEPS; step++) {
                                _tile_loadd(4, from + step * 32, pitch * 2);
                                _tile_loadd(5, from + step * 32 + 16 * pitch, pitch * 2);
                                for (int t = 0; t < terms; t++) {
                                    _tile_loadd(6, left + (t * steps + step) * TILE, 64);
                                    _tile_loadd(7, right + (t * steps + step) * TILE, 64);
                                    _tile_dpbf16ps(0, 4, 6); _tile_dpbf16ps(1, 4, 7);
                                    _tile_dpbf16ps(2, 5, 6); _tile_dpbf16ps(3, 5, 7);
                                }
                            }
                            _tile_stored(0, to, 128); _tile_stored(1, to + 16, 128);
                            _tile_stored(2, to + 512, 128); _tile_stored(3, to + 528, 128);
                        }
            first_job = 0;
        }
#pragma omp for
        for (int64_t block = 0; block < taps * Cp / 32 * Np / 32; block++) {
            /* 32 x 32 of ((tap, c / 32), n / 32) */
            int64_t n0 = block % (Np / 32) * 32, c0 = block / (Np / 32) % (Cp / 32) * 32, tap = block / (Np / 32) / (Cp / 32);
            for (int64_t n = n0; n < n0 + 32 && n < N; n++)
                for (int64_t c = c0; c < c0 + 32 && c < C; c++) {
                    float total = 0;
                    for (int t = 0; t < used_sums && !failed; t++) total += sums[t * sum + block * 1024 + (c - c0) * 32 + n - n0];
                    out[(n * C + c) * taps + tap] = scale * total;
                }
        }
        free(a), free(b);
        _tile_loadconfig(&before);
    }
    free(sums);
    return failed;
}

#else
int amx_start(void) { return 0; }
long amx_weight_size(void) { return 0; }
#endif
