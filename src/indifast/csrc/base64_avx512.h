/* The AVX-512 VBMI path: 48 bytes <-> 64 characters at a time.  The arithmetic is that of W. Mula and D. Lemire,
 * "Base64 encoding and decoding at almost the speed of a memory copy" (2019). */
#ifndef INDIFAST_BASE64_AVX512_H
#define INDIFAST_BASE64_AVX512_H

#include "base64_scalar.h"

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define B64_HAVE_AVX512 1

#include <immintrin.h>

#define B64_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi,bmi,bmi2,popcnt")))
#define B64_AVX512_INLINE static inline __attribute__((always_inline, target("avx512f,avx512bw,avx512vl,avx512vbmi,bmi,bmi2,popcnt")))

static int b64_avx512_usable(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("bmi") &&
           __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
}

/* Bytes (b1, b0, b2, b1) of each group of three, so that every character's bits lie within one 16-bit word. */
static const uint8_t b64_avx512_spread[64] = {
    1,  0,  2,  1,  4,  3,  5,  4,  7,  6,  8,  7,  10, 9,  11, 10, 13, 12, 14, 13, 16, 15,
    17, 16, 19, 18, 20, 19, 22, 21, 23, 22, 25, 24, 26, 25, 28, 27, 29, 28, 31, 30, 32, 31,
    34, 33, 35, 34, 37, 36, 38, 37, 40, 39, 41, 40, 43, 42, 44, 43, 46, 45, 47, 46};

/* Bytes (2, 1, 0) of each 32-bit word: 48 bytes, the rest is not used. */
static const uint8_t b64_avx512_pack[64] = {
    2,  1,  0,  6,  5,  4,  10, 9,  8,  14, 13, 12, 18, 17, 16, 22, 21, 20, 26, 25, 24, 30, 29, 28, 34, 33, 32, 38,
    37, 36, 42, 41, 40, 46, 45, 44, 50, 49, 48, 54, 53, 52, 58, 57, 56, 62, 61, 60};

#define B64_48 0xFFFFFFFFFFFFull

B64_AVX512_INLINE __m512i b64_avx512_encode_block(__m512i in, __m512i spread, __m512i alphabet)
{
    const __m512i shifts = _mm512_set1_epi64(0x3036242a1016040aLL);
    in = _mm512_permutexvar_epi8(spread, in);
    return _mm512_permutexvar_epi8(_mm512_multishift_epi64_epi8(shifts, in), alphabet);
}

B64_AVX512 static size_t b64_avx512_encode(const uint8_t *src, size_t n, uint8_t *dst)
{
    const __m512i spread = _mm512_loadu_si512(b64_avx512_spread), alphabet = _mm512_loadu_si512(b64_alphabet);
    size_t i = 0;
    for (; n - i >= 3 * 48 + 64; i += 4 * 48, dst += 4 * 64) {
        __m512i a = b64_avx512_encode_block(_mm512_loadu_si512(src + i), spread, alphabet);
        __m512i b = b64_avx512_encode_block(_mm512_loadu_si512(src + i + 48), spread, alphabet);
        __m512i c = b64_avx512_encode_block(_mm512_loadu_si512(src + i + 96), spread, alphabet);
        __m512i d = b64_avx512_encode_block(_mm512_loadu_si512(src + i + 144), spread, alphabet);
        _mm512_storeu_si512(dst, a);
        _mm512_storeu_si512(dst + 64, b);
        _mm512_storeu_si512(dst + 128, c);
        _mm512_storeu_si512(dst + 192, d);
    }
    for (; n - i >= 48; i += 48, dst += 64)
        _mm512_storeu_si512(dst,
                            b64_avx512_encode_block(_mm512_maskz_loadu_epi8(B64_48, src + i), spread, alphabet));
    return i;
}

typedef struct {
    __m512i low, high; /* b64_vector_class */
    __m512i pack;
} b64_avx512_tables;

B64_AVX512_INLINE b64_avx512_tables b64_avx512_load_tables(void)
{
    b64_avx512_tables t;
    t.low = _mm512_loadu_si512(b64_vector_class);
    t.high = _mm512_loadu_si512(b64_vector_class + 64);
    t.pack = _mm512_loadu_si512(b64_avx512_pack);
    return t;
}

/* 64 sextets to 48 bytes, in the low bytes. */
B64_AVX512_INLINE __m512i b64_avx512_join(__m512i sextets, __m512i pack)
{
    __m512i pairs = _mm512_maddubs_epi16(sextets, _mm512_set1_epi32(0x01400140));
    return _mm512_permutexvar_epi8(pack, _mm512_madd_epi16(pairs, _mm512_set1_epi32(0x00011000)));
}

B64_AVX512_INLINE size_t b64_avx512_decode_run(const uint8_t *src, size_t n, uint8_t *dst, size_t cap, size_t *written)
{
    const b64_avx512_tables t = b64_avx512_load_tables();
    size_t i = 0, o = 0;
    while (n - i >= 256 && cap - o >= 208) { /* the last of four stores reaches to 144 + 64 */
        __m512i a = _mm512_loadu_si512(src + i), b = _mm512_loadu_si512(src + i + 64);
        __m512i c = _mm512_loadu_si512(src + i + 128), d = _mm512_loadu_si512(src + i + 192);
        __m512i bad = _mm512_ternarylogic_epi64(_mm512_or_si512(a, b), c, d, 0xFE);
        a = _mm512_permutex2var_epi8(t.low, a, t.high);
        b = _mm512_permutex2var_epi8(t.low, b, t.high);
        c = _mm512_permutex2var_epi8(t.low, c, t.high);
        d = _mm512_permutex2var_epi8(t.low, d, t.high);
        bad = _mm512_ternarylogic_epi64(bad, a, b, 0xFE);
        bad = _mm512_ternarylogic_epi64(bad, c, d, 0xFE);
        if (_mm512_movepi8_mask(bad))
            break;
        _mm512_storeu_si512(dst + o, b64_avx512_join(a, t.pack));
        _mm512_storeu_si512(dst + o + 48, b64_avx512_join(b, t.pack));
        _mm512_storeu_si512(dst + o + 96, b64_avx512_join(c, t.pack));
        _mm512_storeu_si512(dst + o + 144, b64_avx512_join(d, t.pack));
        i += 256;
        o += 192;
    }
    while (n - i >= 64 && cap - o >= 48) {
        __m512i in = _mm512_loadu_si512(src + i);
        __m512i sextets = _mm512_permutex2var_epi8(t.low, in, t.high);
        if (_mm512_movepi8_mask(_mm512_or_si512(in, sextets)))
            break;
        _mm512_mask_storeu_epi8(dst + o, B64_48, b64_avx512_join(sextets, t.pack));
        i += 64;
        o += 48;
    }
    *written = o;
    return i;
}

/* Lines of at least 64 characters: a block of 64 holds at most one line feed, `rem` characters ahead.  What lies behind
 * it is loaded from one byte further on. */
B64_AVX512_INLINE size_t b64_avx512_decode_lines(const uint8_t *src, size_t n, size_t width, size_t *column, uint8_t *dst,
                                                 size_t cap, size_t *written)
{
    const b64_avx512_tables t = b64_avx512_load_tables();
    size_t i = 0, o = 0, rem = width - *column;
    while (n - i >= 65 && cap - o >= 64) {
        size_t cut = rem < 64;
        uint64_t behind = cut ? ~0ull << rem : 0;
        __m512i in = _mm512_mask_loadu_epi8(_mm512_loadu_si512(src + i), behind, src + i + 1);
        __m512i sextets = _mm512_permutex2var_epi8(t.low, in, t.high);
        if (_mm512_movepi8_mask(_mm512_or_si512(in, sextets)) || (cut & (src[i + (rem & 63)] != '\n')))
            break;
        _mm512_storeu_si512(dst + o, b64_avx512_join(sextets, t.pack));
        i += 64 + cut;
        o += 48;
        rem = rem - 64 + (cut ? width : 0);
    }
    *column = width - rem;
    *written = o;
    return i;
}

B64_AVX512 static size_t b64_avx512_decode(b64_decode_state *st, const uint8_t *src, size_t n, uint8_t *dst, size_t cap,
                                           size_t *written)
{
    size_t used;
    if (st->width >= 64 && st->column <= st->width) {
        size_t column = st->column;
        used = b64_avx512_decode_lines(src, n, st->width, &column, dst, cap, written);
        st->column = (uint32_t)column;
    } else {
        used = b64_avx512_decode_run(src, n, dst, cap, written);
        st->column += (uint32_t)used;
    }
    return used;
}

B64_AVX512 static size_t b64_avx512_scan_lines(const uint8_t *src, size_t n, size_t feed)
{
    const b64_avx512_tables t = b64_avx512_load_tables();
    const __m512i newline = _mm512_set1_epi8('\n');
    size_t i = 0;
    while (n - i >= 64) {
        size_t cut = feed < 64;
        uint64_t expected = (uint64_t)cut << (feed & 63);
        __m512i in = _mm512_loadu_si512(src + i);
        __m512i kinds = _mm512_permutex2var_epi8(t.low, in, t.high);
        uint64_t special = _mm512_movepi8_mask(_mm512_or_si512(in, kinds));
        uint64_t feeds = _mm512_cmpeq_epi8_mask(in, newline);
        if ((special ^ expected) | (feeds ^ expected))
            break;
        i += 64;
        feed = feed - 64 + (cut ? B64_LINE + 1 : 0);
    }
    return i;
}

B64_AVX512 static size_t b64_avx512_scan_mixed(const uint8_t *src, size_t n, uint64_t *chars)
{
    const b64_avx512_tables t = b64_avx512_load_tables();
    const __m512i white_bit = _mm512_set1_epi8(B64_VECTOR_WHITE);
    size_t i = 0;
    uint64_t whites = 0;
    while (n - i >= 64) {
        __m512i in = _mm512_loadu_si512(src + i);
        __m512i kinds = _mm512_permutex2var_epi8(t.low, in, t.high);
        uint64_t special = _mm512_movepi8_mask(_mm512_or_si512(in, kinds));
        if (special) {
            uint64_t high = _mm512_movepi8_mask(in);
            uint64_t white = _mm512_mask_test_epi8_mask(special & ~high, kinds, white_bit);
            if (white != special)
                break;
            whites += (uint64_t)_mm_popcnt_u64(white);
        }
        i += 64;
    }
    *chars += i - whites;
    return i;
}

#endif
#endif
