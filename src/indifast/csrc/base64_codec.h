/* The codec: chooses the fastest path that this processor supports, and runs it over chunks of text.
 *
 * A path only handles the easy part in the middle: whole, regular blocks without padding.  The scalar code handles
 * everything else (the ends, an open group, irregular white space, errors), so that the rules are defined only once.
 */
#ifndef INDIFAST_BASE64_CODEC_H
#define INDIFAST_BASE64_CODEC_H

#include "base64_scalar.h"

#include "base64_avx512.h"

#include "base64_avx2.h"

#include "base64_neon.h"

typedef struct {
    const char *name;
    int (*usable)(void);
    /* Encodes the beginning of `src`.  Returns the bytes consumed, a multiple of 3, and writes 4/3 as many bytes. */
    size_t (*encode)(const uint8_t *src, size_t n, uint8_t *dst);
    /* Decodes whole groups of 4 at the beginning of `src`, skipping line feeds after lines of st->width characters.  No
     * group may be open; st->column characters precede `src` on its line.  Returns the bytes consumed, sets *written
     * and updates st->column.  Writes nothing beyond the decoded bytes. */
    size_t (*decode)(b64_decode_state *st, const uint8_t *src, size_t n, uint8_t *dst, size_t cap, size_t *written);
    /* Returns the length of a prefix of `src` that consists of characters of the alphabet, except for single line feeds
     * at `feed`, feed + 73, feed + 146, ... (SIZE_MAX: none). */
    size_t (*scan_lines)(const uint8_t *src, size_t n, size_t feed);
    /* Returns the length of a prefix of `src` that consists of characters of the alphabet and white space.  Adds the
     * number of characters to *chars. */
    size_t (*scan_mixed)(const uint8_t *src, size_t n, uint64_t *chars);
} b64_path;

static int b64_always(void) { return 1; }
static size_t b64_encode_nothing(const uint8_t *src, size_t n, uint8_t *dst)
{
    (void)src, (void)n, (void)dst;
    return 0;
}
static size_t b64_decode_nothing(b64_decode_state *st, const uint8_t *src, size_t n, uint8_t *dst, size_t cap,
                                 size_t *written)
{
    (void)st, (void)src, (void)n, (void)dst, (void)cap;
    *written = 0;
    return 0;
}
static size_t b64_scan_lines_nothing(const uint8_t *src, size_t n, size_t feed)
{
    (void)src, (void)n, (void)feed;
    return 0;
}
static size_t b64_scan_mixed_nothing(const uint8_t *src, size_t n, uint64_t *chars)
{
    (void)src, (void)n, (void)chars;
    return 0;
}

/* Fastest first. */
static const b64_path b64_all_paths[] = {
#ifdef B64_HAVE_AVX512
    {"avx512vbmi", b64_avx512_usable, b64_avx512_encode, b64_avx512_decode, b64_avx512_scan_lines,
     b64_avx512_scan_mixed},
#endif
#ifdef B64_HAVE_AVX2
    {"avx2", b64_avx2_usable, b64_avx2_encode, b64_avx2_decode, b64_avx2_scan_lines, b64_avx2_scan_mixed},
#endif
#ifdef B64_HAVE_NEON
    {"neon", b64_neon_usable, b64_neon_encode, b64_neon_decode, b64_neon_scan_lines, b64_neon_scan_mixed},
#endif
    {"scalar", b64_always, b64_encode_nothing, b64_decode_nothing, b64_scan_lines_nothing, b64_scan_mixed_nothing},
};
#define B64_PATHS ((int)(sizeof b64_all_paths / sizeof b64_all_paths[0]))

/* Read by threads without the GIL, while another may select a path: only through the next two functions. */
static const b64_path *b64_selected = &b64_all_paths[B64_PATHS - 1];

static const b64_path *b64_active(void) { return __atomic_load_n(&b64_selected, __ATOMIC_RELAXED); }
static void b64_path_select(int index) { __atomic_store_n(&b64_selected, &b64_all_paths[index], __ATOMIC_RELAXED); }
static const char *b64_path_name(int index) { return b64_all_paths[index].name; }
static int b64_path_usable(int index) { return b64_all_paths[index].usable(); }
static int b64_path_current(void) { return (int)(b64_active() - b64_all_paths); }

static void b64_codec_setup(void)
{
    int i = 0;
    while (!b64_path_usable(i))
        i++;
    b64_path_select(i);
}

/* ---------------------------------------------------------------- Encoding */

static void b64_codec_encode(const uint8_t *src, size_t n, uint8_t *dst)
{
    size_t done = b64_active()->encode(src, n, dst);
    b64_scalar_encode(src + done, n - done, dst + done / 3 * 4);
}

/* ---------------------------------------------------------------- Decoding */

/* Number of bytes that the scalar code processes before the fast path is tried again. */
#define B64_RETRY 64

#define B64_FIRST_LINE 256

/* Length of text from which it pays to advance to the beginning of a line of 72 characters first. */
#define B64_ALIGN 2048

/* Returns an upper bound of the decoded length of a text, which is exact if the text is valid and unwrapped. */
static size_t b64_decoded_bound(const uint8_t *src, size_t n)
{
    size_t pads = 0;
    while (n && b64_class[src[n - 1]] == B64_WHITE)
        n--;
    while (pads < 2 && pads < n && src[n - 1 - pads] == '=')
        pads++;
    n = n / 4 * 3 + (n % 4 ? 3 : 0);
    return n - (pads < n ? pads : n);
}

/* Returns the length of the first line of a text, or 0 if the line is too long to be of use. */
static uint32_t b64_first_line(const uint8_t *src, size_t n)
{
    const uint8_t *feed = memchr(src, '\n', n < B64_FIRST_LINE ? n : B64_FIRST_LINE);
    return feed ? (uint32_t)(feed - src) : 0;
}

/* Decodes until the input ends or something stops it (st->stop).  Returns the bytes consumed and sets *written. */
static size_t b64_codec_decode(b64_decode_state *st, const uint8_t *src, size_t n, uint8_t *dst, size_t cap,
                               size_t *written)
{
    const b64_path *path = b64_active();
    size_t i = 0, o = 0;
    st->stop = B64_STOP_END;
    if (!st->column && !st->carry) { /* usually the beginning of the text */
        while (i < n && b64_class[src[i]] == B64_WHITE)
            i++;
        st->position += i;
        if (!st->width)
            st->width = b64_first_line(src + i, n - i);
    }
    while (i < n) {
        size_t want = n - i < B64_RETRY ? n - i : B64_RETRY;
        if (st->width == B64_LINE && st->column && st->column <= B64_LINE && n - i >= B64_ALIGN) {
            /* Advance to the next line first, where the fastest loop can begin. */
            i += b64_scalar_decode(st, src + i, n - i, B64_LINE - st->column + 1, dst + o, cap - o, &o);
            if (st->stop != B64_STOP_END)
                break;
        }
        if (!st->carry && !st->closed && n - i >= B64_RETRY) {
            size_t made;
            size_t used = path->decode(st, src + i, n - i, dst + o, cap - o, &made);
            st->position += used;
            i += used;
            o += made;
            want = n - i < B64_RETRY ? n - i : B64_RETRY;
        }
        i += b64_scalar_decode(st, src + i, n - i, want, dst + o, cap - o, &o);
        if (st->stop != B64_STOP_END)
            break;
    }
    *written = o;
    return i;
}

/* ---------------------------------------------------------------- Scanning */

/* Accounts for `used` bytes whose only line feeds are at feed, feed + 73, ...; every line is complete. */
static void b64_scanned_lines(b64_scan_state *st, size_t used, size_t feed)
{
    size_t feeds = used > feed ? 1 + (used - 1 - feed) / (B64_LINE + 1) : 0;
    if (!used)
        return;
    if (feeds) {
        size_t after = used - 1 - (feed + (feeds - 1) * (B64_LINE + 1)); /* characters after the last line feed */
        if (feeds > 1 || after)
            st->unwrapped = 0;
        st->column = (uint32_t)after;
        st->white = !after;
    } else {
        st->column += (uint32_t)used;
        st->white = 0;
    }
    st->position += used;
    st->last = st->position - st->white;
    st->chars += used - feeds;
}

/* Scans until the input ends or something stops it (st->stop).  Returns the bytes consumed. */
static size_t b64_codec_scan(b64_scan_state *st, const uint8_t *src, size_t n)
{
    const b64_path *path = b64_active();
    size_t i = 0;
    st->stop = B64_STOP_END;
    if (!st->chars) {
        while (i < n && b64_class[src[i]] == B64_WHITE)
            i++;
        st->position += i;
    }
    while (i < n) {
        if (!st->pads && n - i >= B64_RETRY) {
            size_t used;
            if (st->wrapped72 && !st->ended) {
                size_t feed = B64_LINE - st->column; /* after white space the column is 0 */
                if (feed && feed < B64_LINE && n - i >= B64_ALIGN) {
                    /* Advance to the next line first, where the fastest loop can begin. */
                    i += b64_scalar_scan(st, src + i, n - i, feed + 1);
                    if (st->stop != B64_STOP_END)
                        break;
                    continue;
                }
                used = path->scan_lines(src + i, n - i, feed);
                if (used && st->white)
                    st->unwrapped = 0;
                b64_scanned_lines(st, used, feed);
                i += used;
            } else if (st->unwrapped && !st->white) {
                used = path->scan_lines(src + i, n - i, SIZE_MAX);
                st->position += used;
                st->chars += used;
                st->last = used ? st->position : st->last;
                i += used;
            } else if (!st->unwrapped && !st->wrapped72) {
                uint64_t before = st->chars;
                used = path->scan_mixed(src + i, n - i, &st->chars);
                i += used;
                st->position += used;
                if (used) {
                    size_t back = 0;
                    while (back < used && b64_class[src[i - 1 - back]] == B64_WHITE)
                        back++;
                    if (st->chars > before)
                        st->last = st->position - back;
                    st->white = back > 0;
                }
            }
        }
        i += b64_scalar_scan(st, src + i, n - i, B64_RETRY + 16);
        if (st->stop != B64_STOP_END)
            break;
    }
    return i;
}

#endif
