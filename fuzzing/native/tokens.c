/* The scanner and the writer of the tokenizer, outside of Python: the notes of a root do not depend on how its bytes
 * arrive, no byte outside of them is read, the work is bounded, and what is written is scanned again without a fault.
 *
 * An input is a byte of options (2: small limits, 4: short values), one for the cuts, and a stream. */
#include "harness.h"

#define memchr counted_memchr /* the only call of the scanner in which the bytes themselves are looked at */
static const void *counted_memchr(const void *, int, size_t);

#define main scanner_main /* for its loops that do what the span functions should do */
#include "../../tests/parser/scanner.c"
#undef main
#undef memchr

/* How much was done: loads (clang) or basic blocks (gcc) of the code that is tested, and bytes that were searched. */
static volatile uint64_t work;

static const void *counted_memchr(const void *p, int c, size_t n)
{
    const uint8_t *found = memchr(p, c, n);
    work += found ? (size_t)(found - (const uint8_t *)p) : n;
    return found;
}

#ifdef __clang__
#define LOADED(bytes)                                                                                                  \
    void __sanitizer_cov_load##bytes(void *);                                                                          \
    __attribute__((no_sanitize("coverage"))) void __sanitizer_cov_load##bytes(void *p)                                 \
    {                                                                                                                  \
        (void)p;                                                                                                       \
        work++;                                                                                                        \
    }
LOADED(1)
LOADED(2)
LOADED(4)
LOADED(8)
LOADED(16)
#else
void __sanitizer_cov_trace_pc(void);
__attribute__((no_sanitize_coverage)) void __sanitizer_cov_trace_pc(void) { work++; }
#endif

/* What a byte, and a call of the scanner, may cost. */
enum { MOST_PER_BYTE = 100, MOST_PER_CALL = 100 };

/* What was found in a stream: a sum over everything, that two readings of it can be compared. */
struct found {
    uint64_t sum;
    size_t roots, refused;
};

static void note(struct found *found, uint64_t value) { found->sum = (found->sum ^ value) * 0x9E3779B97F4A7C15u + 1; }

static void note_bytes(struct found *found, const uint8_t *p, size_t n)
{
    note(found, n);
    for (size_t i = 0; i < n; i++)
        note(found, p[i]);
}

/* The span functions against the obvious loops, in memory of exactly this size. */
static void check_spans_of(const uint8_t *data, size_t size)
{
    uint8_t *b = exactly(data, size);
    for (size_t p = 0; p <= size; p += 1 + p / 8) {
        CHECK(tz_span_value(b, p, size) == plain(b, p, size, is_mark));
        CHECK(tz_span_text(b, p, size) == plain(b, p, size, is_text_mark));
        CHECK(tz_span_name(b, p, size) == plain(b, p, size, is_no_name));
        CHECK(tz_span_space(b, p, size) == plain(b, p, size, is_no_space));
    }
    free(b);
}

/* Both forms of a root, with made up BLOBs; the inline one is scanned again. */
static void check_written(struct found *found, const tz_scan_state *s, const uint8_t *b)
{
    tz_out out = {0}, value = {0}, text = {0};
    tz_blob_info *blobs = calloc(s->nblobs + 1, sizeof *blobs);
    size_t *cuts = calloc(s->nblobs + s->attached + 1, sizeof *cuts);
    CHECK(blobs && cuts);
    for (uint32_t i = 0; i < s->nblobs; i++)
        blobs[i] = (tz_blob_info){.chars = i % 2 ? 0 : 4, .decoded = i % 2 ? 0 : 3, .short_line = 1};
    for (int attached = 0; attached < 2; attached++) {
        tz_writer w = {.tok = s->tok, .b = b, .blobs = blobs, .cuts = cuts, .attached = attached,
                       .vector = s->root >= TZ_FIRST_VECTOR, .blob_root = s->root == TZ_SET_BLOB || s->root == TZ_NEW_BLOB,
                       .out = &out, .tmp = &value, .tmp2 = &text};
        out.n = 0;
        CHECK(tz_write_element(&w, 0, 0, 0) == s->ntok);
        CHECK(!out.failed && w.ncuts <= s->nblobs + s->attached);
        for (uint32_t i = 0; i < w.ncuts; i++)
            CHECK(cuts[i] <= out.n && (!i || cuts[i - 1] < cuts[i]));
        note_bytes(found, out.p, out.n);
        tz_scan_state again = {.lim_attr = out.n + 1, .lim_elem = out.n + 1, .lim_depth = TZ_MAX_DEPTH, .lim_members = 1u << 20};
        uint8_t *whole = exactly(out.p, out.n);
        size_t p = 1;
        enum tz_event event;
        tz_begin(&again);
        while ((event = tz_scan(&again, whole, &p, out.n)) == TZ_BLOB || event == TZ_BLOB_END)
            if (event == TZ_BLOB) {
                while (p < out.n && whole[p] != '<')
                    p++;
                again.mark = p;
            }
        CHECK(event == TZ_DONE && again.root == s->root && p + 1 == out.n && whole[p] == '\n');
        free(whole);
        free(again.tok);
    }
    value.n = 0;
    note(found, tz_count_replaced(s->tok, s->ntok, b, &value));
    free(blobs);
    free(cuts);
    free(out.p);
    free(value.p);
    free(text.p);
}

/* Reads a stream that arrives in chunks, as the tokenizer does, but with the bytes of a root in memory of their own. */
static struct found read_stream(const uint8_t *data, size_t size, int limits, uint8_t way)
{
    struct found found = {0, 0, 0};
    tz_scan_state s;
    tz_out old = {0};
    uint32_t state = 1;
    size_t at = 0, here = 0, base; /* here: so much of the stream is here */
    uint64_t calls = 0, spent = 0;
    memset(&s, 0, sizeof s);
    s.lim_attr = limits & 2 ? 64 : limits & 4 ? 1000 : 64 << 10;
    s.lim_elem = limits & 2 ? 1000 : 16 << 20;
    s.lim_depth = limits & 2 ? 4 : 8;
    s.lim_members = limits & 2 ? 9 : 100000;
    while (at < size) {
        if (data[at] != '<') {
            at++;
            s.base++;
            continue;
        }
        enum tz_event event = TZ_MORE;
        size_t p = 1;
        uint8_t *b = NULL;
        base = at;
        while (here <= at)
            here += next_chunk(way, &state, size - here);
        tz_begin(&s);
        for (;;) {
            free(b);
            b = exactly(data + base, here - base);
            for (;;) {
                calls++;
                spent -= work;
                event = tz_scan(&s, b, &p, here - base);
                spent += work;
                CHECK(p <= here - base);
                if (event == TZ_BLOB) {
                    while (p < here - base && b[p] != '<')
                        p++;
                    s.mark = p;
                    if (p == here - base) {
                        event = TZ_MORE;
                        break;
                    }
                } else if (event != TZ_BLOB_END)
                    break;
            }
            if (event != TZ_MORE || here == size)
                break;
            here += next_chunk(way, &state, size - here);
        }
        if (event == TZ_MORE) {
            free(b);
            break;
        }
        if (event == TZ_DONE) {
            found.roots++;
            note(&found, s.ntok);
            for (uint32_t i = 0; i < s.ntok; i++) {
                const tz_token *t = &s.tok[i];
                note(&found, t->kind);
                if (t->kind == TK_ATTR || t->kind == TK_START) {
                    CHECK(t->a + (size_t)t->alen <= p);
                    note_bytes(&found, b + t->a, t->alen);
                }
                if (t->kind == TK_ATTR || t->kind == TK_TEXT || t->kind == TK_CDATA) {
                    CHECK(t->v + (size_t)t->vlen <= p);
                    note_bytes(&found, b + t->v, t->vlen);
                }
            }
            check_written(&found, &s, b);
            old.n = 0;
            tz_put(&old, b, p);
            tz_reserve(&old, TZ_SLACK);
            s.old = s.root == TZ_SET_BLOB || s.root == TZ_NEW_BLOB ? NULL : old.p;
            s.old_len = p;
            s.old_ntok = s.ntok;
            s.old_root = s.root;
            at += p;
            s.base += p;
        } else {
            if (event == TZ_REFUSE) {
                CHECK(s.reason > TZ_R_NONE && s.reason < TZ_REASONS);
                note(&found, s.reason);
                found.refused++;
            }
            CHECK(s.resume > 0 && s.resume <= p); /* which of the bytes of a word that is none, chunks decide */
            if (s.ntok)
                s.old = NULL;
            at += s.resume;
            s.base += s.resume;
        }
        free(b);
    }
    free(s.tok);
    free(old.p);
    CHECK(spent <= MOST_PER_BYTE * size + MOST_PER_CALL * calls);
    return found;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int ready;
    if (!ready) {
        tz_init_tables();
        ready = 1;
    }
    int limits = size ? data[0] & 6 : 0;
    uint8_t way = size > 1 ? data[1] : 0;
    const uint8_t *stream = size > 2 ? data + 2 : data;
    size_t n = size > 2 ? size - 2 : 0;
    check_spans_of(stream, n);
    struct found whole = read_stream(stream, n, limits, 0);
    struct found cut = read_stream(stream, n, limits, way);
    struct found bytes = read_stream(stream, n < 1000 ? n : 1000, limits, 1), beginning;
    CHECK(!memcmp(&whole, &cut, sizeof whole));
    beginning = n < 1000 ? whole : read_stream(stream, 1000, limits, 0);
    CHECK(!memcmp(&beginning, &bytes, sizeof bytes));
    return 0;
}
