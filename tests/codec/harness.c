/* Checks each path of the codec that this processor has against the scalar one.
 *
 *   harness check SEED     compares all paths; prints their names, or what differs (exit status 1)
 *   harness scan           reads texts from stdin (4 bytes of little-endian length, then the text), and prints what
 *                          scanning each of them found: consumed chars last pads wrapped72 unwrapped stop verdict
 *
 * All buffers have the exact size, so that a sanitizer sees every access outside.
 */
#include "base64_codec.h"

#include <stdio.h>
#include <stdlib.h>

static uint64_t seed;

static uint32_t rnd(uint32_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 20) % below;
}

static uint8_t *exact(size_t n)
{
    uint8_t *p = malloc(n ? n : 1);
    if (!p)
        exit(3);
    return p;
}

static uint8_t *copied(const uint8_t *from, size_t n)
{
    uint8_t *p = exact(n);
    memcpy(p, from, n);
    return p;
}

static uint8_t *random_bytes(size_t n)
{
    uint8_t *p = exact(n);
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)rnd(256);
    return p;
}

static void differs(const char *what, size_t a, size_t b)
{
    printf("%s: %s differs from scalar (%zu, %zu)\n", b64_active()->name, what, a, b);
    exit(1);
}

/* Repeats a statement with each path that this processor has. */
#define WITH_EACH_PATH                                                                                                 \
    for (int path = 0; path < B64_PATHS; path++)                                                                       \
        if (b64_path_usable(path) && (b64_path_select(path), 1))

/* Layouts of text. */
enum { RUN, LINES72, LINES76, LINES64, LINES40, CRLF, SHORT_LINES, SPRINKLED, LAYOUTS };

static uint8_t *laid_out(const uint8_t *text, size_t n, int layout, size_t *length)
{
    static const size_t widths[] = {0, 72, 76, 64, 40, 72, 5, 0};
    uint8_t *p = exact(n * 3 + 4);
    size_t o = 0;
    for (size_t i = 0; i < n; i++) {
        if (i && widths[layout] && i % widths[layout] == 0) {
            if (layout == CRLF)
                p[o++] = '\r';
            p[o++] = '\n';
        }
        if (layout == SPRINKLED && rnd(40) == 0)
            p[o++] = (uint8_t)" \t\r\n"[rnd(4)];
        p[o++] = text[i];
    }
    if (layout != RUN)
        p[o++] = '\n';
    *length = o;
    return p;
}

/* What the scalar path makes of a text in one pass. */
typedef struct {
    uint8_t *bytes;
    size_t cap, count, decoded, scanned;
    b64_decode_state decode;
    b64_scan_state scan;
} reference;

static reference refer(const uint8_t *text, size_t n)
{
    reference good = {.cap = n / 4 * 3 + 3};
    good.bytes = exact(good.cap);
    b64_state_init_decode(&good.decode);
    good.decoded = b64_scalar_decode(&good.decode, text, n, n, good.bytes, good.cap, &good.count);
    b64_state_init_scan(&good.scan);
    good.scanned = b64_scalar_scan(&good.scan, text, n, n);
    return good;
}

/* Decodes in pieces that end at the given places, and compares with one scalar pass over the whole. */
static void check_decode(const uint8_t *text, size_t n, const size_t *cuts, size_t ncuts, const reference *good)
{
    size_t written, total = 0, at = 0;
    uint8_t *out = exact(good->cap);
    b64_decode_state st, end_of_good = good->decode;
    memset(out, 0xEE, good->cap);
    b64_state_init_decode(&st);
    for (size_t c = 0; c <= ncuts; c++) {
        size_t end = c < ncuts ? cuts[c] : n;
        if (end < at || end > n)
            continue;
        uint8_t *piece = copied(text + at, end - at);
        at += b64_codec_decode(&st, piece, end - at, out + total, good->cap - total, &written);
        total += written;
        free(piece);
        if (at < end)
            break;
    }
    if (at != good->decoded || st.position != good->decode.position)
        differs("decode: consumed", at, good->decoded);
    if (st.stop != good->decode.stop || st.error != good->decode.error ||
        b64_state_end_decode(&st) != b64_state_end_decode(&end_of_good))
        differs("decode: verdict", st.stop, good->decode.stop);
    if (total != good->count || memcmp(out, good->bytes, total))
        differs("decode: output", total, good->count);
    for (size_t i = total; i < good->cap; i++)
        if (out[i] != 0xEE)
            differs("decode: bytes after the output", i, total);
    free(out);
}

/* Decodes into a small output buffer, again and again. */
static void check_small(const uint8_t *text, size_t n, size_t room, const reference *good)
{
    size_t cap = good->cap, total = 0, at = 0;
    uint8_t *whole = exact(cap);
    b64_decode_state st;
    b64_state_init_decode(&st);
    do {
        size_t written, give = room + rnd(3);
        uint8_t *out = exact(give);
        at += b64_codec_decode(&st, text + at, n - at, out, give, &written);
        if (written > give || total + written > cap)
            differs("decode: room", written, give);
        memcpy(whole + total, out, written);
        total += written;
        free(out);
    } while (st.stop == B64_STOP_FULL);
    if (total != good->count || memcmp(whole, good->bytes, total) || at != good->decode.position)
        differs("decode into small buffers", total, good->count);
    free(whole);
}

static void check_scan(const uint8_t *text, size_t n, const size_t *cuts, size_t ncuts, const reference *whole)
{
    size_t at = 0;
    b64_scan_state st, good = whole->scan;
    b64_state_init_scan(&st);
    for (size_t c = 0; c <= ncuts; c++) {
        size_t end = c < ncuts ? cuts[c] : n;
        if (end < at || end > n)
            continue;
        uint8_t *piece = copied(text + at, end - at);
        at += b64_codec_scan(&st, piece, end - at);
        free(piece);
        if (at < end)
            break;
    }
    if (at != whole->scanned || st.position != good.position)
        differs("scan: consumed", at, whole->scanned);
    if (st.chars != good.chars)
        differs("scan: characters", st.chars, good.chars);
    if (st.last != good.last)
        differs("scan: last", st.last, good.last);
    if (st.wrapped72 != good.wrapped72 || st.unwrapped != good.unwrapped || st.white != good.white)
        differs("scan: layout", st.wrapped72 * 4 + st.unwrapped * 2 + st.white,
                good.wrapped72 * 4 + good.unwrapped * 2 + good.white);
    if (st.stop != good.stop || st.error != good.error || b64_state_end_scan(&st) != b64_state_end_scan(&good) ||
        st.pads != good.pads || st.closed != good.closed)
        differs("scan: verdict", st.stop, good.stop);
}

static void check_pieces(const uint8_t *text, size_t n, const size_t *cuts, size_t ncuts, const reference *good)
{
    WITH_EACH_PATH
    {
        check_decode(text, n, cuts, ncuts, good);
        check_scan(text, n, cuts, ncuts, good);
    }
}

static void check_room(const uint8_t *text, size_t n, size_t room, const reference *good)
{
    WITH_EACH_PATH
        check_small(text, n, room, good);
}

static void check_text(const uint8_t *text, size_t n, const size_t *cuts, size_t ncuts)
{
    reference good = refer(text, n);
    check_pieces(text, n, cuts, ncuts, &good);
    free(good.bytes);
}

static void check_encode(size_t n)
{
    size_t length = (n + 2) / 3 * 4;
    uint8_t *data = random_bytes(n), *expected = exact(length), *out = exact(length);
    b64_scalar_encode(data, n, expected);
    WITH_EACH_PATH
    {
        memset(out, 0, length);
        b64_codec_encode(data, n, out);
        if (memcmp(out, expected, length))
            differs("encode", n, length);
    }
    free(out);
    free(expected);
    free(data);
}

static void check_length(size_t n)
{
    size_t length = (n + 2) / 3 * 4;
    uint8_t *data = random_bytes(n), *text = exact(length);
    check_encode(n);
    b64_scalar_encode(data, n, text);
    for (int layout = 0; layout < LAYOUTS; layout++) {
        size_t m, cuts[3];
        uint8_t *t = laid_out(text, length, layout, &m);
        uint8_t *e = copied(t, m);
        reference good = refer(e, m);
        check_pieces(e, m, NULL, 0, &good);
        for (int k = 0; k < 3; k++) { /* a few random splits */
            cuts[0] = rnd((uint32_t)m + 1);
            cuts[1] = cuts[0] + rnd((uint32_t)(m - cuts[0]) + 1);
            cuts[2] = cuts[1] + rnd((uint32_t)(m - cuts[1]) + 1);
            check_pieces(e, m, cuts, 3, &good);
        }
        check_room(e, m, 3 + rnd(200), &good);
        free(good.bytes);
        free(e);
        free(t);
    }
    free(text);
    free(data);
}

/* Every split into two, and splits into three whose middle is about as wide as a vector. */
static void check_splits(size_t n)
{
    static const size_t widths[] = {16, 24, 32, 48, 64, 72, 73, 96, 128, 146, 192, 256};
    size_t length = (n + 2) / 3 * 4;
    uint8_t *data = random_bytes(n), *text = exact(length);
    b64_scalar_encode(data, n, text);
    for (int layout = 0; layout < LAYOUTS; layout++) {
        size_t m, cuts[2];
        uint8_t *t = laid_out(text, length, layout, &m);
        reference good = refer(t, m);
        for (size_t cut = 0; cut <= m; cut++) {
            check_pieces(t, m, &cut, 1, &good);
            for (size_t end = cut + 64; end <= m && end <= cut + 192; end += 64) /* whole blocks after the split */
                check_text(t, end, &cut, 1);
        }
        for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
            for (size_t a = 0; a < 5; a++)
                for (size_t first = 0; first < 90; first += 1 + rnd(4)) {
                    cuts[0] = first;
                    cuts[1] = first + widths[w] + a - 2;
                    check_pieces(t, m, cuts, 2, &good);
                }
        free(good.bytes);
        free(t);
    }
    free(text);
    free(data);
}

/* A wrong byte at every place: foreign ones next to the ranges of the alphabet, padding, white space, set sign bits, and
 * a character where a line should end. */
static void check_wrong(size_t n, size_t kinds, int layouts)
{
    static const uint8_t wrong[] = {'<', '\n', 'A', '=', 0x8A, ' ', '\r', '\t', '\v', '\f', 0, '-', '_', '@',
                                    '[', '`', '{', ':', ',', '.', '*', 127, 128, 0xA0, 0xAB, 0xC1, 255};
    size_t length = (n + 2) / 3 * 4;
    uint8_t *data = random_bytes(n), *text = exact(length);
    b64_scalar_encode(data, n, text);
    for (int layout = 0; layout < layouts; layout++) {
        size_t m;
        uint8_t *t = laid_out(text, length, layout, &m);
        for (size_t at = 0; at < m; at++)
            for (size_t k = 0; k < kinds && k < sizeof wrong; k++) {
                uint8_t kept = t[at];
                t[at] = wrong[k];
                check_text(t, m, NULL, 0);
                t[at] = kept;
            }
        free(t);
    }
    free(text);
    free(data);
}

/* A long text with a few bytes changed, in pieces. */
static void check_changed(void)
{
    size_t n = 1500 + rnd(4000), length = (n + 2) / 3 * 4, m, cuts[2], at = 0;
    uint8_t *data = random_bytes(n), *text = exact(length);
    b64_scalar_encode(data, n, text);
    uint8_t *t = laid_out(text, length, (int)rnd(LAYOUTS), &m);
    for (unsigned k = rnd(3); k; k--) {
        at = rnd((uint32_t)m);
        t[at] = (uint8_t)"\n\n A"[rnd(4)];
    }
    cuts[0] = at && rnd(2) ? at + 1 : rnd((uint32_t)m + 1); /* right after a change, or anywhere */
    cuts[1] = cuts[0] + rnd((uint32_t)(m - cuts[0]) + 1);
    check_text(t, m, cuts, 2);
    check_text(t, cuts[0] + (m - cuts[0]) / 64 * 64, cuts, 1);
    free(t);
    free(text);
    free(data);
}

/* Random bytes, most of them base64 characters. */
static void check_noise(void)
{
    static const char likely[] = "ABCDwxyz0189+/====    \n\n\n\r\t<&\"";
    size_t m = rnd(400);
    uint8_t *t = exact(m);
    for (size_t i = 0; i < m; i++)
        t[i] = rnd(100) < 90 ? (uint8_t)b64_alphabet[rnd(64)] : (uint8_t)likely[rnd(sizeof likely - 1)];
    size_t cut = rnd((uint32_t)m + 1);
    reference good = refer(t, m);
    check_pieces(t, m, &cut, 1, &good);
    check_room(t, m, 3 + rnd(100), &good);
    free(good.bytes);
    free(t);
}

static int check(void)
{
    for (size_t n = 0; n <= 1000; n++)
        check_length(n);
    for (size_t n = 0; n < 10; n++)
        check_length(2000 + rnd(20000));
    check_splits(300 + rnd(3));
    check_wrong(200 + rnd(3), 99, LAYOUTS);
    check_wrong(900 + rnd(3), 4, LINES72 + 1); /* enough for the longest strides */
    for (int k = 0; k < 20000; k++)
        check_noise();
    for (int k = 0; k < 1000; k++)
        check_changed();
    WITH_EACH_PATH
        printf("%s ", b64_path_name(path));
    printf("\n");
    return 0;
}

static int scan(void)
{
    uint8_t head[4];
    while (fread(head, 1, 4, stdin) == 4) {
        size_t n = head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
        uint8_t *text = exact(n);
        b64_scan_state st;
        if (fread(text, 1, n, stdin) != n)
            return 2;
        b64_state_init_scan(&st);
        size_t used = b64_codec_scan(&st, text, n);
        printf("%zu %llu %llu %d %d %d %d %d\n", used, (unsigned long long)st.chars, (unsigned long long)st.last, st.pads,
               st.wrapped72, st.unwrapped, st.stop, b64_state_end_scan(&st));
        free(text);
    }
    return 0;
}

int main(int argc, char **argv)
{
    b64_codec_setup();
    if (argc == 3 && !strcmp(argv[1], "check")) {
        seed = strtoull(argv[2], NULL, 10) * 2654435761u + 88172645463325252u;
        return check();
    }
    if (argc == 2 && !strcmp(argv[1], "scan"))
        return scan();
    fprintf(stderr, "usage: harness check SEED | harness scan\n");
    return 2;
}
