/* The scanner without Python: checks its span functions against simple loops, then prints the notes that it makes about
 * standard input. It must print the same with vector instructions, without them (TZ_SCALAR), and on aarch64. */
#include "rewrite.h"
#include <stdio.h>

static uint32_t state = 2463534242u;

static uint32_t number(uint32_t below) {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state % below;
}

static int is_mark(uint8_t c) { return c < 0x20 || c >= 0x80 || strchr("<>&'\"", c) != NULL; }
static int is_text_mark(uint8_t c) { return c != '"' && c != '\'' && c != '\n' && c != '\t' && is_mark(c); }
static int is_no_name(uint8_t c) { return !(tz_class[c] & TC_NAME); }
static int is_no_space(uint8_t c) { return strchr(" \t\r\n", c) == NULL || c == 0; }

static size_t plain(const uint8_t *b, size_t p, size_t end, int (*stop)(uint8_t)) {
    while (p < end && !stop(b[p])) p++;
    return p;
}

static void check_spans(void) {
    static const char pool[] = "abcXYZ019_ \t\n\r<>&'\"=/-:.\x01\x1f\x7f\x80\xff";
    for (int round = 0; round < 20000; round++) {
        size_t size = number(150), p = 0;
        uint8_t *b = (uint8_t *)malloc(size + 1);  /* allocated, so that a sanitizer sees any access outside */
        uint32_t common = number(4);
        for (size_t i = 0; i < size; i++)
            b[i] = number(12) ? (uint8_t)(common == 0 ? pool[number(sizeof pool - 1)] : "a Q"[common - 1]) : (uint8_t)number(256);
        if (size) p = number((uint32_t)size);
        if (tz_span_value(b, p, size) != plain(b, p, size, is_mark)) exit(2);
        if (tz_span_text(b, p, size) != plain(b, p, size, is_text_mark)) exit(3);
        if (tz_span_name(b, p, size) != plain(b, p, size, is_no_name)) exit(4);
        if (tz_span_space(b, p, size) != plain(b, p, size, is_no_space)) exit(5);
        free(b);
    }
}

static void print_notes(const tz_scan_state *s, const uint8_t *b) {
    for (uint32_t i = 0; i < s->ntok; i++) {
        const tz_token *t = &s->tok[i];
        size_t n = t->kind == TK_ATTR || t->kind == TK_TEXT || t->kind == TK_CDATA ? t->vlen : 0;
        printf("%d:%d:%.*s=%.*s|", t->kind, t->flags & (TF_HIGH | TF_AMP | TF_CTRL | TF_CR | TF_ODD), (int)t->alen,
               (const char *)b + t->a, (int)n, (const char *)b + t->v);
    }
    printf("root %s\n", tz_roots[s->root]);
}

int main(void) {
    static uint8_t in[1 << 20];
    size_t size, at = 0, p;
    tz_scan_state s;
    tz_out old = {0};
    tz_init_tables();
    check_spans();
    memset(&s, 0, sizeof s);
    s.lim_attr = 100;
    s.lim_elem = 1000;
    s.lim_depth = 5;
    s.lim_members = 9;
    size = fread(in, 1, sizeof in, stdin);
    uint8_t *b = (uint8_t *)malloc(size + 1);
    memcpy(b, in, size);
    while (at < size) {
        if (b[at] != '<') { at++; continue; }
        tz_begin(&s);
        p = 1;
        enum tz_event event = tz_scan(&s, b + at, &p, size - at);
        while (event == TZ_BLOB || event == TZ_BLOB_END) {
            if (event == TZ_BLOB) {
                while (at + p < size && b[at + p] != '<') p++;
                s.mark = p;
            }
            event = tz_scan(&s, b + at, &p, size - at);
        }
        if (event == TZ_MORE) break;
        if (event != TZ_DONE) {
            if (event == TZ_REFUSE) printf("refused %s\n", tz_reasons[s.reason]);
            if (s.ntok) s.old = NULL;
            at += s.resume;
            s.base += s.resume;
            continue;
        }
        print_notes(&s, b + at);
        old.n = 0;
        tz_put(&old, b + at, p);
        tz_reserve(&old, TZ_SLACK);
        s.old = s.root == TZ_SET_BLOB || s.root == TZ_NEW_BLOB ? NULL : old.p;
        s.old_len = p;
        s.old_ntok = s.ntok;
        s.old_root = s.root;
        at += p;
        s.base += p;
    }
    free(b);
    free(s.tok);
    free(old.p);
    return 0;
}
