/* The NEON path (aarch64): 48 bytes <-> 64 characters at a time, using interleaving loads and stores. */
#ifndef INDIFAST_BASE64_NEON_H
#define INDIFAST_BASE64_NEON_H

#include "base64_scalar.h"

#if defined(__aarch64__) && defined(__ARM_NEON) && defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define B64_HAVE_NEON 1

#include <arm_neon.h>

static int b64_neon_usable(void) { return 1; }

static inline uint8x16x4_t b64_neon_table(const uint8_t *bytes)
{
    uint8x16x4_t t;
    t.val[0] = vld1q_u8(bytes);
    t.val[1] = vld1q_u8(bytes + 16);
    t.val[2] = vld1q_u8(bytes + 32);
    t.val[3] = vld1q_u8(bytes + 48);
    return t;
}

static size_t b64_neon_encode(const uint8_t *src, size_t n, uint8_t *dst)
{
    const uint8x16x4_t alphabet = b64_neon_table((const uint8_t *)b64_alphabet);
    const uint8x16_t six = vdupq_n_u8(63);
    size_t i = 0;
    for (; n - i >= 48; i += 48, dst += 64) {
        uint8x16x3_t in = vld3q_u8(src + i);
        uint8x16x4_t out;
        out.val[0] = vqtbl4q_u8(alphabet, vshrq_n_u8(in.val[0], 2));
        out.val[1] = vqtbl4q_u8(alphabet, vandq_u8(vsliq_n_u8(vshrq_n_u8(in.val[1], 4), in.val[0], 4), six));
        out.val[2] = vqtbl4q_u8(alphabet, vandq_u8(vsliq_n_u8(vshrq_n_u8(in.val[2], 6), in.val[1], 2), six));
        out.val[3] = vqtbl4q_u8(alphabet, vandq_u8(in.val[2], six));
        vst4q_u8(dst, out);
    }
    return i;
}

/* Looks up 16 bytes in b64_vector_class; bytes from 0x80 on yield 0. */
static inline uint8x16_t b64_neon_kinds(uint8x16_t in, uint8x16x4_t low, uint8x16x4_t high)
{
    return vqtbx4q_u8(vqtbl4q_u8(low, in), high, veorq_u8(in, vdupq_n_u8(64)));
}

/* Decodes 64 characters to 48 bytes.  Returns 0 and writes nothing if one of them is not in the alphabet. */
static inline int b64_neon_decode_block(const uint8_t *src, uint8_t *dst, uint8x16x4_t low, uint8x16x4_t high)
{
    uint8x16x4_t in = vld4q_u8(src);
    uint8x16_t a = b64_neon_kinds(in.val[0], low, high), b = b64_neon_kinds(in.val[1], low, high);
    uint8x16_t c = b64_neon_kinds(in.val[2], low, high), d = b64_neon_kinds(in.val[3], low, high);
    uint8x16_t bad = vorrq_u8(vorrq_u8(vorrq_u8(in.val[0], in.val[1]), vorrq_u8(in.val[2], in.val[3])),
                              vorrq_u8(vorrq_u8(a, b), vorrq_u8(c, d)));
    uint8x16x3_t out;
    if (vmaxvq_u8(bad) & 0x80)
        return 0;
    out.val[0] = vorrq_u8(vshlq_n_u8(a, 2), vshrq_n_u8(b, 4));
    out.val[1] = vorrq_u8(vshlq_n_u8(b, 4), vshrq_n_u8(c, 2));
    out.val[2] = vorrq_u8(vshlq_n_u8(c, 6), d);
    vst3q_u8(dst, out);
    return 1;
}

/* The numbers 0 to 15. */
static const uint8_t b64_neon_count[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

static size_t b64_neon_decode(b64_decode_state *st, const uint8_t *src, size_t n, uint8_t *dst, size_t cap,
                              size_t *written)
{
    const uint8x16x4_t low = b64_neon_table(b64_vector_class), high = b64_neon_table(b64_vector_class + 64);
    const uint8x16_t count = vld1q_u8(b64_neon_count);
    const int lines = st->width >= 64 && st->column <= st->width;
    size_t i = 0, o = 0, rem = lines ? st->width - st->column : SIZE_MAX;
    while (n - i >= 65 && cap - o >= 48) {
        size_t cut = rem < 64;
        if (cut) { /* a line feed within these 64: what follows it is loaded from one byte further on */
            uint8_t block[64];
            if (src[i + rem] != '\n')
                break;
            for (unsigned part = 0; part < 64; part += 16) {
                uint8x16_t behind = vcgeq_u8(vaddq_u8(count, vdupq_n_u8((uint8_t)part)), vdupq_n_u8((uint8_t)rem));
                vst1q_u8(block + part, vbslq_u8(behind, vld1q_u8(src + i + part + 1), vld1q_u8(src + i + part)));
            }
            if (!b64_neon_decode_block(block, dst + o, low, high))
                break;
        } else if (!b64_neon_decode_block(src + i, dst + o, low, high)) {
            break;
        }
        i += 64 + cut;
        o += 48;
        rem = rem - 64 + (cut ? st->width : 0);
    }
    st->column = lines ? (uint32_t)(st->width - rem) : st->column + (uint32_t)i;
    *written = o;
    return i;
}

static size_t b64_neon_scan_lines(const uint8_t *src, size_t n, size_t feed)
{
    const uint8x16x4_t low = b64_neon_table(b64_vector_class), high = b64_neon_table(b64_vector_class + 64);
    const uint8x16_t count = vld1q_u8(b64_neon_count), newline = vdupq_n_u8('\n');
    size_t i = 0;
    while (n - i >= 64) {
        size_t cut = feed < 64;
        uint8x16_t at = vdupq_n_u8(cut ? (uint8_t)feed : 255), wrong = vdupq_n_u8(0);
        for (unsigned part = 0; part < 64; part += 16) {
            uint8x16_t in = vld1q_u8(src + i + part);
            uint8x16_t special = vorrq_u8(in, b64_neon_kinds(in, low, high));
            uint8x16_t expected = vceqq_u8(vaddq_u8(count, vdupq_n_u8((uint8_t)part)), at);
            /* Bit 7: special but not expected, or vice versa, or an expected line feed that is something else. */
            wrong = vorrq_u8(wrong, vorrq_u8(veorq_u8(special, expected), veorq_u8(vceqq_u8(in, newline), expected)));
        }
        if (vmaxvq_u8(wrong) & 0x80)
            break;
        i += 64;
        feed = feed - 64 + (cut ? B64_LINE + 1 : 0);
    }
    return i;
}

static size_t b64_neon_scan_mixed(const uint8_t *src, size_t n, uint64_t *chars)
{
    const uint8x16x4_t low = b64_neon_table(b64_vector_class), high = b64_neon_table(b64_vector_class + 64);
    size_t i = 0;
    uint64_t whites = 0;
    while (n - i >= 16) {
        uint8x16_t in = vld1q_u8(src + i), kinds = b64_neon_kinds(in, low, high);
        uint8x16_t special = vshrq_n_u8(vorrq_u8(in, kinds), 7);
        uint8x16_t white = vandq_u8(vshrq_n_u8(kinds, 6), special); /* 1: white space (below 0x80) */
        white = vandq_u8(white, vdupq_n_u8(1));
        if (vmaxvq_u8(veorq_u8(special, white)))
            break;
        whites += vaddvq_u8(white);
        i += 16;
    }
    *chars += i - whites;
    return i;
}

#endif
#endif
