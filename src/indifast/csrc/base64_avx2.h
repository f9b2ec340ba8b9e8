/* The AVX2 path: 24 bytes <-> 32 characters at a time.  The arithmetic is that of W. Mula and D. Lemire, "Faster Base64
 * Encoding and Decoding using AVX2 Instructions" (2018). */
#ifndef INDIFAST_BASE64_AVX2_H
#define INDIFAST_BASE64_AVX2_H

#include "base64_scalar.h"

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define B64_HAVE_AVX2 1

#include <immintrin.h>

#define B64_AVX2 __attribute__((target("avx2,popcnt")))
#define B64_AVX2_INLINE static inline __attribute__((always_inline, target("avx2,popcnt")))

static int b64_avx2_usable(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt");
}

B64_AVX2_INLINE __m256i b64_avx2_twice(char a, char b, char c, char d, char e, char f, char g, char h, char i, char j,
                                       char k, char l, char m, char n, char o, char p)
{
    return _mm256_setr_epi8(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o,
                            p);
}

/* Encodes 24 bytes, 12 in each half of the register, to 32 characters. */
B64_AVX2_INLINE __m256i b64_avx2_encode_block(__m256i in)
{
    in = _mm256_shuffle_epi8(in, b64_avx2_twice(1, 0, 2, 1, 4, 3, 5, 4, 7, 6, 8, 7, 10, 9, 11, 10));
    __m256i ac = _mm256_mulhi_epu16(_mm256_and_si256(in, _mm256_set1_epi32(0x0FC0FC00)), _mm256_set1_epi32(0x04000040));
    __m256i bd = _mm256_mullo_epi16(_mm256_and_si256(in, _mm256_set1_epi32(0x003F03F0)), _mm256_set1_epi32(0x01000010));
    __m256i sextets = _mm256_or_si256(ac, bd);
    /* Index of a character's distance from its sextet, by range: 0..25 (13), 26..51 (0), 52..61 (1..10), 62 (11),
     * 63 (12). */
    __m256i range = _mm256_subs_epu8(sextets, _mm256_set1_epi8(51));
    __m256i upper = _mm256_cmpgt_epi8(_mm256_set1_epi8(26), sextets);
    range = _mm256_or_si256(range, _mm256_and_si256(upper, _mm256_set1_epi8(13)));
    __m256i distance = b64_avx2_twice('a' - 26, '0' - 52, '0' - 52, '0' - 52, '0' - 52, '0' - 52, '0' - 52, '0' - 52,
                                      '0' - 52, '0' - 52, '0' - 52, '+' - 62, '/' - 63, 'A', 0, 0);
    return _mm256_add_epi8(sextets, _mm256_shuffle_epi8(distance, range));
}

B64_AVX2 static size_t b64_avx2_encode(const uint8_t *src, size_t n, uint8_t *dst)
{
    size_t i = 0;
    for (; n - i >= 28; i += 24, dst += 32) {
        __m128i low = _mm_loadu_si128((const __m128i *)(src + i));
        __m128i high = _mm_loadu_si128((const __m128i *)(src + i + 12));
        __m256i in = _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
        _mm256_storeu_si256((__m256i *)dst, b64_avx2_encode_block(in));
    }
    return i;
}

/* Returns the sextets of 32 characters; *bad is nonzero in every byte that is not in the alphabet. */
B64_AVX2_INLINE __m256i b64_avx2_classify(__m256i in, __m256i *bad)
{
    const __m256i low_kinds = b64_avx2_twice(0x15, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x13, 0x1A, 0x1B,
                                             0x1B, 0x1B, 0x1A);
    const __m256i high_kinds = b64_avx2_twice(0x10, 0x10, 0x01, 0x02, 0x04, 0x08, 0x04, 0x08, 0x10, 0x10, 0x10, 0x10, 0x10,
                                              0x10, 0x10, 0x10);
    const __m256i rolls = b64_avx2_twice(0, 16, 19, 4, -65, -65, -71, -71, 0, 0, 0, 0, 0, 0, 0, 0);
    const __m256i slash = _mm256_set1_epi8(0x2F);
    __m256i high = _mm256_and_si256(_mm256_srli_epi32(in, 4), slash);
    __m256i low = _mm256_and_si256(in, slash);
    *bad = _mm256_and_si256(_mm256_shuffle_epi8(low_kinds, low), _mm256_shuffle_epi8(high_kinds, high));
    __m256i roll = _mm256_shuffle_epi8(rolls, _mm256_add_epi8(_mm256_cmpeq_epi8(in, slash), high));
    return _mm256_add_epi8(in, roll);
}

/* Joins 32 sextets to 24 bytes, which it returns in the low bytes. */
B64_AVX2_INLINE __m256i b64_avx2_join(__m256i sextets)
{
    __m256i pairs = _mm256_maddubs_epi16(sextets, _mm256_set1_epi32(0x01400140));
    __m256i words = _mm256_madd_epi16(pairs, _mm256_set1_epi32(0x00011000));
    words = _mm256_shuffle_epi8(words, b64_avx2_twice(2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, -1, -1, -1, -1));
    return _mm256_permutevar8x32_epi32(words, _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 7, 7));
}

/* Nothing is ever written beyond the decoded bytes.  A full store writes 8 bytes too many; where no next block
 * overwrites them, only 24 bytes are stored. */
B64_AVX2_INLINE void b64_avx2_store(uint8_t *dst, __m256i sextets)
{
    _mm256_storeu_si256((__m256i *)dst, b64_avx2_join(sextets));
}

B64_AVX2_INLINE void b64_avx2_store_last(uint8_t *dst, __m256i sextets)
{
    __m256i bytes = b64_avx2_join(sextets);
    _mm_storeu_si128((__m128i *)dst, _mm256_castsi256_si128(bytes));
    _mm_storel_epi64((__m128i *)(dst + 16), _mm256_extracti128_si256(bytes, 1));
}

B64_AVX2_INLINE __m256i b64_avx2_load(const uint8_t *src) { return _mm256_loadu_si256((const __m256i *)src); }

B64_AVX2_INLINE size_t b64_avx2_decode_run(const uint8_t *src, size_t n, uint8_t *dst, size_t cap, size_t *written)
{
    size_t i = 0, o = 0;
    __m256i x, y, z;
    while (n - i >= 96 && cap - o >= 72) {
        __m256i a = b64_avx2_classify(b64_avx2_load(src + i), &x);
        __m256i b = b64_avx2_classify(b64_avx2_load(src + i + 32), &y);
        __m256i c = b64_avx2_classify(b64_avx2_load(src + i + 64), &z);
        x = _mm256_or_si256(x, _mm256_or_si256(y, z));
        if (!_mm256_testz_si256(x, x))
            break;
        b64_avx2_store(dst + o, a);
        b64_avx2_store(dst + o + 24, b);
        b64_avx2_store_last(dst + o + 48, c);
        i += 96;
        o += 72;
    }
    while (n - i >= 32 && cap - o >= 24) {
        __m256i a = b64_avx2_classify(b64_avx2_load(src + i), &x);
        if (!_mm256_testz_si256(x, x))
            break;
        b64_avx2_store_last(dst + o, a);
        i += 32;
        o += 24;
    }
    *written = o;
    return i;
}

/* 32 zeros, then 32 ones: at offset 32 - k, a mask of the bytes from k on. */
static const uint8_t b64_avx2_from[64] = {
    0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,
    0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};

/* Loads 32 characters with a line feed after the first `before`: what follows it is loaded from one byte further on. */
B64_AVX2_INLINE __m256i b64_avx2_load_around(const uint8_t *src, size_t before)
{
    return _mm256_blendv_epi8(b64_avx2_load(src), b64_avx2_load(src + 1), b64_avx2_load(b64_avx2_from + 32 - before));
}

/* The same for a `before` that is a multiple of 8. */
#define B64_AVX2_AROUND(src, before) \
    _mm256_blend_epi32(b64_avx2_load(src), b64_avx2_load((src) + 1), 0xFF & (0xFF << ((before) / 4)))

/* Decodes groups of four lines of 72 characters, from the beginning of a line: three times three blocks of 32
 * characters. */
B64_AVX2_INLINE size_t b64_avx2_decode_72(const uint8_t *src, size_t n, uint8_t *dst, size_t cap, size_t *written)
{
    size_t i = 0, o = 0;
    __m256i a, b, c, x, y, z;
    while (n - i >= 4 * 73 && cap - o >= 9 * 24) {
        const uint8_t *s = src + i;
        uint8_t *d = dst + o;
        if ((s[72] ^ '\n') | (s[145] ^ '\n') | (s[218] ^ '\n') | (s[291] ^ '\n'))
            break;
        a = b64_avx2_classify(b64_avx2_load(s), &x);
        b = b64_avx2_classify(b64_avx2_load(s + 32), &y);
        c = b64_avx2_classify(B64_AVX2_AROUND(s + 64, 8), &z);
        x = _mm256_or_si256(x, _mm256_or_si256(y, z));
        if (!_mm256_testz_si256(x, x))
            break;
        b64_avx2_store(d, a);
        b64_avx2_store(d + 24, b);
        b64_avx2_store_last(d + 48, c);
        a = b64_avx2_classify(b64_avx2_load(s + 97), &x);
        b = b64_avx2_classify(B64_AVX2_AROUND(s + 129, 16), &y);
        c = b64_avx2_classify(b64_avx2_load(s + 162), &z);
        x = _mm256_or_si256(x, _mm256_or_si256(y, z));
        if (!_mm256_testz_si256(x, x))
            break;
        b64_avx2_store(d + 72, a);
        b64_avx2_store(d + 96, b);
        b64_avx2_store_last(d + 120, c);
        a = b64_avx2_classify(B64_AVX2_AROUND(s + 194, 24), &x);
        b = b64_avx2_classify(b64_avx2_load(s + 227), &y);
        c = b64_avx2_classify(b64_avx2_load(s + 259), &z);
        x = _mm256_or_si256(x, _mm256_or_si256(y, z));
        if (!_mm256_testz_si256(x, x))
            break;
        b64_avx2_store(d + 144, a);
        b64_avx2_store(d + 168, b);
        b64_avx2_store_last(d + 192, c);
        i += 4 * 73;
        o += 9 * 24;
    }
    *written = o;
    return i;
}

/* Decodes lines of equal length, at least 32: a block of 32 contains at most one line feed, `rem` characters ahead. */
B64_AVX2_INLINE size_t b64_avx2_decode_lines(const uint8_t *src, size_t n, size_t width, size_t *column, uint8_t *dst,
                                             size_t cap, size_t *written)
{
    size_t i = 0, o = 0, rem = width - *column;
    while (n - i >= 33 && cap - o >= 24) {
        size_t cut = rem < 32, before = cut ? rem : 32;
        __m256i bad, sextets = b64_avx2_classify(b64_avx2_load_around(src + i, before), &bad);
        if (!_mm256_testz_si256(bad, bad) || (cut & (src[i + before] != '\n')))
            break;
        b64_avx2_store_last(dst + o, sextets);
        i += 32 + cut;
        o += 24;
        rem = rem - 32 + (cut ? width : 0);
    }
    *column = width - rem;
    *written = o;
    return i;
}

B64_AVX2 static size_t b64_avx2_decode(b64_decode_state *st, const uint8_t *src, size_t n, uint8_t *dst, size_t cap,
                                       size_t *written)
{
    size_t used = 0, made = 0, column = st->column;
    if (st->width < 32 || st->column > st->width) {
        used = b64_avx2_decode_run(src, n, dst, cap, written);
        st->column += (uint32_t)used;
        return used;
    }
    if (st->width == B64_LINE && st->column == 0)
        used = b64_avx2_decode_72(src, n, dst, cap, &made);
    used += b64_avx2_decode_lines(src + used, n - used, st->width, &column, dst + made, cap - made, written);
    *written += made;
    st->column = (uint32_t)column;
    return used;
}

/* At offset 31 - k, a mask of byte k. */
static const uint8_t b64_avx2_one[64] = {[31] = 255};

/* Returns one bit for each of 32 bytes, set if it is not in the alphabet. */
B64_AVX2_INLINE uint32_t b64_avx2_special(__m256i in)
{
    __m256i bad;
    b64_avx2_classify(in, &bad);
    return ~(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(bad, _mm256_setzero_si256()));
}

B64_AVX2_INLINE __m256i b64_avx2_bad(__m256i in)
{
    __m256i bad;
    b64_avx2_classify(in, &bad);
    return bad;
}

/* Scans groups of four lines of 72 characters: nine blocks of 32 bytes, and one more that ends with the last line.  The
 * line feeds are checked byte by byte. */
B64_AVX2_INLINE size_t b64_avx2_scan_72(const uint8_t *src, size_t n)
{
    size_t i = 0;
/* The block at `at`, except for the byte at `feed`. */
#define B64_REST(at, feed) \
    _mm256_andnot_si256(b64_avx2_load(b64_avx2_one + 31 - ((feed) - (at))), b64_avx2_bad(b64_avx2_load(s + (at))))
    while (n - i >= 4 * 73) {
        const uint8_t *s = src + i;
        __m256i bad = _mm256_or_si256(b64_avx2_bad(b64_avx2_load(s)), b64_avx2_bad(b64_avx2_load(s + 32)));
        bad = _mm256_or_si256(bad, B64_REST(64, 72));
        bad = _mm256_or_si256(bad, b64_avx2_bad(b64_avx2_load(s + 96)));
        bad = _mm256_or_si256(bad, B64_REST(128, 145));
        bad = _mm256_or_si256(bad, b64_avx2_bad(b64_avx2_load(s + 160)));
        bad = _mm256_or_si256(bad, B64_REST(192, 218));
        bad = _mm256_or_si256(bad, b64_avx2_bad(b64_avx2_load(s + 224)));
        bad = _mm256_or_si256(bad, b64_avx2_bad(b64_avx2_load(s + 256)));
        bad = _mm256_or_si256(bad, B64_REST(260, 291));
        if (((s[72] ^ '\n') | (s[145] ^ '\n') | (s[218] ^ '\n') | (s[291] ^ '\n')) || !_mm256_testz_si256(bad, bad))
            break;
        i += 4 * 73;
    }
#undef B64_REST
    return i;
}

B64_AVX2_INLINE size_t b64_avx2_scan_run(const uint8_t *src, size_t n)
{
    size_t i = 0;
    while (n - i >= 128) {
        __m256i ab = _mm256_or_si256(b64_avx2_bad(b64_avx2_load(src + i)), b64_avx2_bad(b64_avx2_load(src + i + 32)));
        __m256i cd =
            _mm256_or_si256(b64_avx2_bad(b64_avx2_load(src + i + 64)), b64_avx2_bad(b64_avx2_load(src + i + 96)));
        ab = _mm256_or_si256(ab, cd);
        if (!_mm256_testz_si256(ab, ab))
            break;
        i += 128;
    }
    return i;
}

B64_AVX2 static size_t b64_avx2_scan_lines(const uint8_t *src, size_t n, size_t feed)
{
    const __m256i newline = _mm256_set1_epi8('\n');
    size_t i = 0;
    if (feed == B64_LINE) {
        i = b64_avx2_scan_72(src, n);
    } else if (feed == SIZE_MAX) {
        i = b64_avx2_scan_run(src, n);
        feed -= i;
    }
    while (n - i >= 64) {
        size_t cut = feed < 64;
        uint64_t expected = (uint64_t)cut << (feed & 63);
        __m256i a = _mm256_loadu_si256((const __m256i *)(src + i));
        __m256i b = _mm256_loadu_si256((const __m256i *)(src + i + 32));
        uint64_t special = b64_avx2_special(a) | (uint64_t)b64_avx2_special(b) << 32;
        uint64_t feeds = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(a, newline)) |
                         (uint64_t)(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(b, newline)) << 32;
        if ((special ^ expected) | (feeds ^ expected))
            break;
        i += 64;
        feed = feed - 64 + (cut ? B64_LINE + 1 : 0);
    }
    return i;
}

B64_AVX2 static size_t b64_avx2_scan_mixed(const uint8_t *src, size_t n, uint64_t *chars)
{
    /* The only white space character that a byte can be, by its low four bits. */
    const __m256i white_by_low = b64_avx2_twice(' ', -1, -1, -1, -1, -1, -1, -1, -1, '\t', '\n', -1, -1, '\r', -1, -1);
    size_t i = 0;
    uint64_t whites = 0;
    while (n - i >= 32) {
        __m256i in = _mm256_loadu_si256((const __m256i *)(src + i));
        uint32_t special = b64_avx2_special(in);
        if (special) {
            __m256i white = _mm256_cmpeq_epi8(in, _mm256_shuffle_epi8(white_by_low, in));
            if ((uint32_t)_mm256_movemask_epi8(white) != special)
                break;
            whites += (uint64_t)__builtin_popcount(special);
        }
        i += 32;
    }
    *chars += i - whites;
    return i;
}

#endif
#endif
