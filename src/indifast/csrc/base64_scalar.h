/* The codec one character at a time: the reference for all faster paths, and their fallback. */
#ifndef INDIFAST_BASE64_SCALAR_H
#define INDIFAST_BASE64_SCALAR_H

#include "base64_state.h"

static const char b64_alphabet[64] = {
    'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J', 'K', 'L', 'M', 'N', 'O', 'P', 'Q', 'R', 'S', 'T', 'U', 'V',
    'W', 'X', 'Y', 'Z', 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p', 'q', 'r',
    's', 't', 'u', 'v', 'w', 'x', 'y', 'z', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '+', '/'};

/* Encodes all of `src`, including padding; writes (n + 2) / 3 * 4 characters. */
static inline void b64_scalar_encode(const uint8_t *src, size_t n, uint8_t *dst)
{
    while (n >= 3) {
        uint32_t v = (uint32_t)src[0] << 16 | (uint32_t)src[1] << 8 | src[2];
        dst[0] = (uint8_t)b64_alphabet[v >> 18];
        dst[1] = (uint8_t)b64_alphabet[v >> 12 & 63];
        dst[2] = (uint8_t)b64_alphabet[v >> 6 & 63];
        dst[3] = (uint8_t)b64_alphabet[v & 63];
        src += 3;
        dst += 4;
        n -= 3;
    }
    if (n) {
        uint32_t v = (uint32_t)src[0] << 16 | (n == 2 ? (uint32_t)src[1] << 8 : 0);
        dst[0] = (uint8_t)b64_alphabet[v >> 18];
        dst[1] = (uint8_t)b64_alphabet[v >> 12 & 63];
        dst[2] = n == 2 ? (uint8_t)b64_alphabet[v >> 6 & 63] : (uint8_t)'=';
        dst[3] = (uint8_t)'=';
    }
}

/* Decodes until `want` bytes are consumed and no group is open, or until something stops it (st->stop).  Writes nothing
 * beyond dst + cap.  Returns the bytes consumed and adds to *written. */
static inline size_t b64_scalar_decode(b64_decode_state *st, const uint8_t *src, size_t n, size_t want, uint8_t *dst,
                                       size_t cap, size_t *written)
{
    size_t i = 0, o = 0;
    st->stop = B64_STOP_END;
    while (i < n) {
        if (i >= want && !st->carry)
            break;
        if (!st->carry && !st->closed && n - i >= 4 && cap - o >= 3) { /* a whole group at once */
            uint32_t a = b64_class[src[i]], b = b64_class[src[i + 1]];
            uint32_t c = b64_class[src[i + 2]], d = b64_class[src[i + 3]];
            if (!((a | b | c | d) & 0xC0)) {
                uint32_t v = a << 18 | b << 12 | c << 6 | d;
                dst[o] = (uint8_t)(v >> 16);
                dst[o + 1] = (uint8_t)(v >> 8);
                dst[o + 2] = (uint8_t)v;
                o += 3;
                i += 4;
                st->column += 4;
                continue;
            }
        }
        uint8_t k = b64_class[src[i]];
        if (k == B64_WHITE) {
            if (src[i] == '\n') {
                st->width = st->column;
                st->column = 0;
            }
            i++;
            continue;
        }
        if (k == B64_FOREIGN) {
            st->stop = B64_STOP_FOREIGN;
            break;
        }
        if (st->closed)
            st->error = B64_ERROR_AFTER_PAD;
        else if (k == B64_PAD && st->carry < 2)
            st->error = B64_ERROR_EARLY_PAD;
        else if (k != B64_PAD && st->pads)
            st->error = B64_ERROR_MISSING_PAD;
        if (st->error) {
            st->stop = B64_STOP_ERROR;
            break;
        }
        if (st->carry == 3) { /* the group is complete with this character */
            unsigned pads = st->pads + (k == B64_PAD), bytes = 3 - pads;
            if (cap - o < bytes) {
                st->stop = B64_STOP_FULL;
                break;
            }
            uint32_t v = st->sextets << 6 | (k & 63);
            dst[o++] = (uint8_t)(v >> 16);
            if (bytes > 1)
                dst[o++] = (uint8_t)(v >> 8);
            if (bytes > 2)
                dst[o++] = (uint8_t)v;
            st->pads = (uint8_t)pads;
            st->closed = pads > 0;
            st->carry = 0;
            st->sextets = 0;
        } else {
            st->pads += k == B64_PAD;
            st->sextets = st->sextets << 6 | (k & 63);
            st->carry++;
        }
        st->column++;
        i++;
    }
    st->position += i;
    *written += o;
    return i;
}

/* Scans until `want` bytes are consumed, or until something stops it (st->stop).  Returns the bytes consumed. */
static inline size_t b64_scalar_scan(b64_scan_state *st, const uint8_t *src, size_t n, size_t want)
{
    size_t i = 0;
    st->stop = B64_STOP_END;
    for (; i < n && i < want; i++) {
        uint8_t k = b64_class[src[i]];
        if (k == B64_WHITE) {
            if (!st->chars) /* before the text */
                continue;
            if (src[i] == '\n' && st->column == B64_LINE && !st->white)
                st->column = 0;
            else
                st->ended = 1;
            st->white = 1;
            continue;
        }
        if (k == B64_FOREIGN) {
            st->stop = B64_STOP_FOREIGN;
            break;
        }
        if (st->closed)
            st->error = B64_ERROR_AFTER_PAD;
        else if (k == B64_PAD && (st->chars & 3) < 2)
            st->error = B64_ERROR_EARLY_PAD;
        else if (k != B64_PAD && st->pads)
            st->error = B64_ERROR_MISSING_PAD;
        if (st->error) {
            st->stop = B64_STOP_ERROR;
            break;
        }
        if (st->white) {
            st->unwrapped = 0;
            st->wrapped72 &= !st->ended;
            st->white = 0;
        }
        if (st->column == B64_LINE)
            st->wrapped72 = 0;
        else
            st->column++;
        st->pads += k == B64_PAD;
        st->chars++;
        st->closed = st->pads && !(st->chars & 3);
        st->last = st->position + i + 1;
    }
    st->position += i;
    return i;
}

#endif
