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

/* Bytes (b1, b0, b2, b1) of each group of three, so that the bits of each character are within one 16-bit word. */
static const uint8_t b64_avx512_spread[64] = {
    1,  0,  2,  1,  4,  3,  5,  4,  7,  6,  8,  7,  10, 9,  11, 10, 13, 12, 14, 13, 16, 15,
    17, 16, 19, 18, 20, 19, 22, 21, 23, 22, 25, 24, 26, 25, 28, 27, 29, 28, 31, 30, 32, 31,
    34, 33, 35, 34, 37, 36, 38, 37, 40, 39, 41, 40, 43, 42, 44, 43, 46, 45, 47, 46};

/* Bytes (2, 1, 0) of each 32-bit word: 48 bytes; the rest is unused. */
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

/* Joins 64 sextets to 48 bytes, which it returns in the low bytes. */
B64_AVX512_INLINE __m512i b64_avx512_join(__m512i sextets, __m512i pack)
{
    __m512i pairs = _mm512_maddubs_epi16(sextets, _mm512_set1_epi32(0x01400140));
    return _mm512_permutexvar_epi8(pack, _mm512_madd_epi16(pairs, _mm512_set1_epi32(0x00011000)));
}

/* Replaces the characters of a block by their sextets, and sets the sign bit in `bad` for those not in the alphabet. */
#define B64_AVX512_LOOK(in)                                  \
    do {                                                     \
        __m512i text = (in);                                 \
        __asm__("" : "+v"(text)); /* otherwise the compiler loads it twice */ \
        in = _mm512_permutex2var_epi8(t.low, text, t.high);  \
        bad = _mm512_ternarylogic_epi64(bad, text, in, 0xFE); \
    } while (0)

/* Nothing is ever written beyond the decoded bytes.  A full store writes 16 bytes too many; where no next block
 * overwrites them, only 48 bytes are stored. */
#define B64_AVX512_STORE(k, sextets) _mm512_storeu_si512(dst + o + 48 * (k), b64_avx512_join(sextets, t.pack))
#define B64_AVX512_STORE_LAST(k, sextets) \
    _mm512_mask_storeu_epi8(dst + o + 48 * (k), B64_48, b64_avx512_join(sextets, t.pack))

B64_AVX512_INLINE size_t b64_avx512_decode_run(const uint8_t *src, size_t n, uint8_t *dst, size_t cap, size_t *written)
{
    const b64_avx512_tables t = b64_avx512_load_tables();
    size_t i = 0, o = 0;
    while (n - i >= 256 && cap - o >= 192) {
        __m512i a = _mm512_loadu_si512(src + i), b = _mm512_loadu_si512(src + i + 64);
        __m512i c = _mm512_loadu_si512(src + i + 128), d = _mm512_loadu_si512(src + i + 192);
        __m512i bad = _mm512_setzero_si512();
        B64_AVX512_LOOK(a);
        B64_AVX512_LOOK(b);
        B64_AVX512_LOOK(c);
        B64_AVX512_LOOK(d);
        if (_mm512_movepi8_mask(bad))
            break;
        B64_AVX512_STORE(0, a);
        B64_AVX512_STORE(1, b);
        B64_AVX512_STORE(2, c);
        B64_AVX512_STORE_LAST(3, d);
        i += 256;
        o += 192;
    }
    while (n - i >= 64 && cap - o >= 48) {
        __m512i a = _mm512_loadu_si512(src + i), bad = _mm512_setzero_si512();
        B64_AVX512_LOOK(a);
        if (_mm512_movepi8_mask(bad))
            break;
        B64_AVX512_STORE_LAST(0, a);
        i += 64;
        o += 48;
    }
    *written = o;
    return i;
}

/* Returns nonzero if one of eight lines of 72 characters is not followed by a line feed. */
B64_AVX512_INLINE int b64_avx512_feeds_differ(const uint8_t *s)
{
    return (s[72] ^ '\n') | (s[145] ^ '\n') | (s[218] ^ '\n') | (s[291] ^ '\n') | (s[364] ^ '\n') | (s[437] ^ '\n') |
           (s[510] ^ '\n') | (s[583] ^ '\n');
}

/* Decodes groups of eight lines of 72 characters, from the beginning of a line: nine blocks of 64 characters, the k-th
 * of which has a line feed after its first 8 k characters.  What follows it is loaded from one byte further on. */
B64_AVX512_INLINE size_t b64_avx512_decode_72(const uint8_t *src, size_t n, uint8_t *dst, size_t cap, size_t *written)
{
    const b64_avx512_tables t = b64_avx512_load_tables();
    size_t i = 0, o = 0;
#define B64_BLOCK(k)                                                               \
    _mm512_mask_loadu_epi64(_mm512_loadu_si512(s + 64 * (k) + (k)-1), (uint8_t)(0xFF << (k)), \
                            s + 64 * (k) + (k))
    while (n - i >= 8 * 73 && cap - o >= 9 * 48) {
        const uint8_t *s = src + i;
        __m512i bad = _mm512_setzero_si512();
        __m512i b0 = _mm512_loadu_si512(s), b1 = B64_BLOCK(1), b2 = B64_BLOCK(2), b3 = B64_BLOCK(3), b4 = B64_BLOCK(4);
        __m512i b5 = B64_BLOCK(5), b6 = B64_BLOCK(6), b7 = B64_BLOCK(7), b8 = _mm512_loadu_si512(s + 519);
        int feeds = b64_avx512_feeds_differ(s);
        B64_AVX512_LOOK(b0);
        B64_AVX512_LOOK(b1);
        B64_AVX512_LOOK(b2);
        B64_AVX512_LOOK(b3);
        B64_AVX512_LOOK(b4);
        B64_AVX512_LOOK(b5);
        B64_AVX512_LOOK(b6);
        B64_AVX512_LOOK(b7);
        B64_AVX512_LOOK(b8);
        if (feeds || _mm512_movepi8_mask(bad))
            break;
        B64_AVX512_STORE(0, b0);
        B64_AVX512_STORE(1, b1);
        B64_AVX512_STORE(2, b2);
        B64_AVX512_STORE(3, b3);
        B64_AVX512_STORE(4, b4);
        B64_AVX512_STORE(5, b5);
        B64_AVX512_STORE(6, b6);
        B64_AVX512_STORE(7, b7);
        B64_AVX512_STORE_LAST(8, b8);
        i += 8 * 73;
        o += 9 * 48;
    }
#undef B64_BLOCK
    *written = o;
    return i;
}

/* Decodes lines of equal length, at least 64: a block of 64 contains at most one line feed, `rem` characters ahead. */
B64_AVX512_INLINE size_t b64_avx512_decode_lines(const uint8_t *src, size_t n, size_t width, size_t *column, uint8_t *dst,
                                                 size_t cap, size_t *written)
{
    const b64_avx512_tables t = b64_avx512_load_tables();
    size_t i = 0, o = 0, rem = width - *column;
    while (n - i >= 65 && cap - o >= 48) {
        size_t cut = rem < 64;
        uint64_t behind = cut ? ~0ull << rem : 0;
        __m512i a = _mm512_mask_loadu_epi8(_mm512_loadu_si512(src + i), behind, src + i + 1);
        __m512i bad = _mm512_setzero_si512();
        B64_AVX512_LOOK(a);
        if (_mm512_movepi8_mask(bad) | (cut * (size_t)(src[i + (rem & 63)] ^ '\n')))
            break;
        B64_AVX512_STORE_LAST(0, a);
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
    size_t used = 0, made = 0, column = st->column;
    if (st->width < 64 || st->column > st->width) {
        used = b64_avx512_decode_run(src, n, dst, cap, written);
        st->column += (uint32_t)used;
        return used;
    }
    if (st->width == B64_LINE && st->column == 0)
        used = b64_avx512_decode_72(src, n, dst, cap, &made);
    used += b64_avx512_decode_lines(src + used, n - used, st->width, &column, dst + made, cap - made, written);
    *written += made;
    st->column = (uint32_t)column;
    return used;
}

/* Scans groups of eight lines of 72 characters: nine blocks of 64 bytes, and one more that ends with the last line.
 * The line feeds are not loaded into the registers, which contain the character A in their places. */
B64_AVX512_INLINE size_t b64_avx512_scan_72(const uint8_t *src, size_t n)
{
    const b64_avx512_tables t = b64_avx512_load_tables();
    const __m512i fill = _mm512_set1_epi8('A');
    size_t i = 0;
#define B64_BLOCK(k, feed) _mm512_mask_loadu_epi8(fill, ~(1ull << ((feed) - (k))), s + (k))
    while (n - i >= 8 * 73) {
        const uint8_t *s = src + i;
        __m512i bad = _mm512_setzero_si512();
        __m512i b0 = _mm512_loadu_si512(s), b1 = B64_BLOCK(64, 72), b2 = B64_BLOCK(128, 145), b3 = B64_BLOCK(192, 218);
        __m512i b4 = B64_BLOCK(256, 291), b5 = B64_BLOCK(320, 364), b6 = B64_BLOCK(384, 437), b7 = B64_BLOCK(448, 510);
        __m512i b8 = _mm512_loadu_si512(s + 512), b9 = B64_BLOCK(520, 583);
        int feeds = b64_avx512_feeds_differ(s);
        B64_AVX512_LOOK(b0);
        B64_AVX512_LOOK(b1);
        B64_AVX512_LOOK(b2);
        B64_AVX512_LOOK(b3);
        B64_AVX512_LOOK(b4);
        B64_AVX512_LOOK(b5);
        B64_AVX512_LOOK(b6);
        B64_AVX512_LOOK(b7);
        B64_AVX512_LOOK(b8);
        B64_AVX512_LOOK(b9);
        if (feeds || _mm512_movepi8_mask(bad))
            break;
        i += 8 * 73;
    }
#undef B64_BLOCK
    return i;
}

B64_AVX512_INLINE size_t b64_avx512_scan_run(const uint8_t *src, size_t n)
{
    const b64_avx512_tables t = b64_avx512_load_tables();
    size_t i = 0;
    while (n - i >= 256) {
        __m512i a = _mm512_loadu_si512(src + i), b = _mm512_loadu_si512(src + i + 64);
        __m512i c = _mm512_loadu_si512(src + i + 128), d = _mm512_loadu_si512(src + i + 192);
        __m512i bad = _mm512_setzero_si512();
        B64_AVX512_LOOK(a);
        B64_AVX512_LOOK(b);
        B64_AVX512_LOOK(c);
        B64_AVX512_LOOK(d);
        if (_mm512_movepi8_mask(bad))
            break;
        i += 256;
    }
    return i;
}

B64_AVX512 static size_t b64_avx512_scan_lines(const uint8_t *src, size_t n, size_t feed)
{
    const b64_avx512_tables t = b64_avx512_load_tables();
    const __m512i newline = _mm512_set1_epi8('\n');
    size_t i = 0;
    if (feed == B64_LINE) {
        i = b64_avx512_scan_72(src, n);
    } else if (feed == SIZE_MAX) {
        i = b64_avx512_scan_run(src, n);
        feed -= i;
    }
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
