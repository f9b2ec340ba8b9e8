/* The base64 codec outside of Python: every path of this processor does what the scalar one does, with buffers of exactly
 * the size that is needed, however the text is cut, and text that was encoded is decoded to the same.
 *
 * An input is a byte of options (1: encode), one for the cuts, and text or bytes. */
#include "harness.h"

#define main harness_main /* for its comparisons */
#include "../../tests/codec/harness.c"
#undef main

enum { MOST_CUTS = 64 };

static void check_encoded(const uint8_t *data, size_t n)
{
    size_t length = (n + 2) / 3 * 4, written = 0;
    uint8_t *source = exactly(data, n), *expected = exact(length), *text = exact(length), *back = exact(n);
    b64_decode_state st;
    b64_scalar_encode(source, n, expected);
    b64_codec_encode(source, n, text);
    CHECK(!memcmp(text, expected, length));
    b64_state_init_decode(&st);
    CHECK(b64_codec_decode(&st, text, length, back, n, &written) == length && written == n);
    CHECK(!b64_state_end_decode(&st) && !memcmp(back, source, n));
    free(source);
    free(expected);
    free(text);
    free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int ready;
    if (!ready) {
        b64_codec_setup();
        ready = 1;
    }
    if (size < 2)
        return 0;
    int encode = data[0] & 1;
    uint8_t way = data[1];
    size_t n = size - 2, cuts[MOST_CUTS], ncuts = 0, at = 0;
    uint32_t state = 1;
    uint8_t *text = exactly(data + 2, n);
    while (ncuts < MOST_CUTS && (at += next_chunk(way, &state, n - at)) < n)
        cuts[ncuts++] = at;
    if (encode) {
        WITH_EACH_PATH
            check_encoded(text, n);
    } else {
        reference good = refer(text, n);
        check_pieces(text, n, NULL, 0, &good);
        check_pieces(text, n, cuts, ncuts, &good);
        seed = 88172645463325252u + way;
        check_room(text, n, 3 + way, &good);
        free(good.bytes);
    }
    free(text);
    return 0;
}
