/* Reading and writing of the values that tokens.h finds: references, encodings, and the clean form to send. */
#ifndef INDIFAST_REWRITE_H
#define INDIFAST_REWRITE_H

#include "tokens.h"
#include <stdio.h>

enum tz_how { TV_ATTR, TV_TEXT, TV_CDATA };  /* how to read a value */

/* A growing output buffer.  Once memory runs out, `failed` stays set and nothing more is written. */
typedef struct {
    uint8_t *p;
    size_t n, cap;
    int failed;
} tz_out;

static int tz_reserve(tz_out *o, size_t more) {
    if (o->cap - o->n >= more) return 1;
    size_t cap = o->cap * 2 > o->n + more ? o->cap * 2 : o->n + more + 1024;
    uint8_t *q = o->failed ? NULL : (uint8_t *)realloc(o->p, cap);
    if (!q) { o->failed = 1; return 0; }
    o->p = q;
    o->cap = cap;
    return 1;
}

static inline void tz_put(tz_out *o, const void *src, size_t n) {
    if (tz_reserve(o, n)) { memcpy(o->p + o->n, src, n); o->n += n; }
}

#define TZ_PUTS(o, literal) tz_put(o, literal, sizeof(literal) - 1)

/* Returns the length of the valid UTF-8 sequence at p, or 0 (RFC 3629: no surrogates, no overlong forms). */
static inline size_t tz_utf8(const uint8_t *p, size_t n) {
    uint8_t c = p[0];
    if (c < 0x80) return 1;
    if (c >= 0xC2 && c <= 0xDF) return n > 1 && (p[1] & 0xC0) == 0x80 ? 2 : 0;
    if (c >= 0xE0 && c <= 0xEF) {
        if (n < 3 || (p[1] & 0xC0) != 0x80 || (p[2] & 0xC0) != 0x80) return 0;
        if ((c == 0xE0 && p[1] < 0xA0) || (c == 0xED && p[1] > 0x9F)) return 0;
        return 3;
    }
    if (c >= 0xF0 && c <= 0xF4) {
        if (n < 4 || (p[1] & 0xC0) != 0x80 || (p[2] & 0xC0) != 0x80 || (p[3] & 0xC0) != 0x80) return 0;
        if ((c == 0xF0 && p[1] < 0x90) || (c == 0xF4 && p[1] > 0x8F)) return 0;
        return 4;
    }
    return 0;
}

static int tz_valid_utf8(const uint8_t *p, size_t n) {
    while (n) {
        size_t k = tz_utf8(p, n);
        if (!k) return 0;
        p += k;
        n -= k;
    }
    return 1;
}

static void tz_put_code(tz_out *o, uint32_t c) {
    uint8_t u[4];
    if (c < 0x80) { u[0] = (uint8_t)c; tz_put(o, u, 1); }
    else if (c < 0x800) { u[0] = 0xC0 | (c >> 6); u[1] = 0x80 | (c & 63); tz_put(o, u, 2); }
    else if (c < 0x10000) { u[0] = 0xE0 | (c >> 12); u[1] = 0x80 | (c >> 6 & 63); u[2] = 0x80 | (c & 63); tz_put(o, u, 3); }
    else { u[0] = 0xF0 | (c >> 18); u[1] = 0x80 | (c >> 12 & 63); u[2] = 0x80 | (c >> 6 & 63); u[3] = 0x80 | (c & 63); tz_put(o, u, 4); }
}

/* The production Char of XML 1.0. */
static inline int tz_xml_char(uint32_t c) {
    if (c < 0x20) return c == '\t' || c == '\n' || c == '\r';
    return c < 0xD800 || (c > 0xDFFF && c < 0xFFFE) || (c > 0xFFFF && c < 0x110000);
}

/* Returns the length of the reference at p ("&...;") and sets *code to its character; 0 if XML defines no such one. */
static size_t tz_reference(const uint8_t *p, size_t n, uint32_t *code) {
    static const struct { const char *name; uint8_t n, code; } named[] = {
        {"&lt;", 4, '<'}, {"&gt;", 4, '>'}, {"&amp;", 5, '&'}, {"&quot;", 6, '"'}, {"&apos;", 6, '\''}};
    if (n < 4) return 0;
    if (p[1] != '#') {
        for (int i = 0; i < 5; i++)
            if (n >= named[i].n && memcmp(p, named[i].name, named[i].n) == 0) { *code = named[i].code; return named[i].n; }
        return 0;
    }
    int hex = p[2] == 'x';
    size_t i = hex ? 3 : 2, first = i;
    uint32_t value = 0;
    for (; i < n; i++) {
        uint8_t c = p[i];
        uint32_t d;
        if (c >= '0' && c <= '9') d = c - '0';
        else if (hex && (c | 32) >= 'a' && (c | 32) <= 'f') d = (c | 32) - 'a' + 10;
        else break;
        value = value * (hex ? 16 : 10) + d;
        if (value > 0x110000) value = 0x110000;
    }
    if (i == first || i >= n || p[i] != ';') return 0;
    *code = value;
    return i + 1;
}

/* Appends the value as UTF-8: references are resolved, characters that XML forbids are replaced by U+FFFD, invalid
 * UTF-8 is read as Latin-1, and white space is normalized as in XML 1.0 (2.11, 3.3.3).  Returns the number of
 * characters replaced. */
static uint32_t tz_read_value(tz_out *o, const uint8_t *p, size_t n, int flags, enum tz_how how) {
    uint32_t replaced = 0, code;
    size_t k;
    int latin1 = (flags & TF_HIGH) && !tz_valid_utf8(p, n);
    if (!tz_reserve(o, n + 8)) return 0;
    while (n) {
        uint8_t c = *p;
        k = 1;
        if (c < 0x80) {
            if (c == '&' && how != TV_CDATA && (k = tz_reference(p, n, &code)) != 0) {
                if (!tz_xml_char(code)) { code = 0xFFFD; replaced++; }
                tz_put_code(o, code);
            } else {
                k = 1;
                if (c == '\r') {
                    c = '\n';
                    if (n > 1 && p[1] == '\n') k = 2;
                }
                if (c < 0x20 && c != '\n' && c != '\t') { replaced++; tz_put_code(o, 0xFFFD); }
                else {
                    if (how == TV_ATTR && c < 0x20) c = ' ';
                    tz_put(o, &c, 1);
                }
            }
        } else if (latin1) tz_put_code(o, c);
        else {
            k = tz_utf8(p, n);
            if (k == 3 && p[0] == 0xEF && p[1] == 0xBF && p[2] >= 0xBE) { replaced++; tz_put_code(o, 0xFFFD); }
            else tz_put(o, p, k);
        }
        p += k;
        n -= k;
    }
    return replaced;
}

/* Appends clean UTF-8 with the references needed in text or in a double-quoted attribute value. */
static void tz_escape(tz_out *o, const uint8_t *p, size_t n, int attr) {
    size_t from = 0, i;
    if (!tz_reserve(o, n)) return;
    for (i = 0; i < n; i++) {
        const char *r;
        switch (p[i]) {
        case '&': r = "&amp;"; break;
        case '<': r = "&lt;"; break;
        case '>': r = "&gt;"; break;
        case '\r': r = "&#13;"; break;
        case '"': if (!attr) continue; r = "&quot;"; break;
        case '\n': if (!attr) continue; r = "&#10;"; break;
        case '\t': if (!attr) continue; r = "&#09;"; break;
        default: continue;
        }
        tz_put(o, p + from, i - from);
        tz_put(o, r, strlen(r));
        from = i + 1;
    }
    tz_put(o, p + from, n - from);
}

/* Flags of values that cannot be copied unchanged. */
enum { TF_ODD_ATTR = TF_HIGH | TF_AMP | TF_CTRL | TF_CR | TF_NL, TF_ODD_TEXT = TF_HIGH | TF_AMP | TF_CTRL | TF_CR };

/* What is known about the text of a oneBLOB. */
typedef struct {
    uint64_t chars;       /* base64 characters, 0: no content */
    uint64_t decoded;     /* bytes that they encode */
    uint8_t wrapped72;
    uint8_t short_line;   /* one line of at most 72 characters followed by white space, which `enclen` may count */
} tz_blob_info;

typedef struct {
    const tz_token *tok;
    const uint8_t *b;
    const tz_blob_info *blobs;
    size_t *cuts;         /* offsets in `out` where the text of each BLOB with content belongs */
    uint32_t ncuts;
    int attached;         /* 1: write the form in which BLOBs are descriptors; 2: that in which raw bytes follow */
    int vector, blob_root; /* kind of the root */
    tz_out *out, *tmp, *tmp2;
} tz_writer;

static inline void tz_write_attr(tz_writer *w, const tz_token *t) {
    tz_out *o = w->out;
    if (t->flags & TF_ODD) return;
    if (!tz_reserve(o, (size_t)t->alen + t->vlen + 4)) return;
    o->p[o->n++] = ' ';
    memcpy(o->p + o->n, w->b + t->a, t->alen);
    o->n += t->alen;
    o->p[o->n++] = '=';
    o->p[o->n++] = '"';
    if (!(t->flags & (TF_ODD_ATTR | TF_MARK))) {
        memcpy(o->p + o->n, w->b + t->v, t->vlen);
        o->n += t->vlen;
    } else {
        w->tmp->n = 0;
        tz_read_value(w->tmp, w->b + t->v, t->vlen, t->flags, TV_ATTR);
        tz_escape(o, w->tmp->p, w->tmp->n, 1);
    }
    TZ_PUTS(o, "\"");
}

static void tz_write_number(tz_out *o, const char *name, uint64_t value) {
    char s[64];
    int n = snprintf(s, sizeof s, " %s=\"%llu\"", name, (unsigned long long)value);
    tz_put(o, s, (size_t)n);
}

/* Returns whether `enclen` is right for the text as written, and does not stall libindi's reader, which reads one more
 * character for each 72 counted; these must be white space. */
static inline int tz_good_enclen(const tz_blob_info *info, int64_t count) {
    return (info->wrapped72 && count == (int64_t)info->chars) ||
           (info->short_line && count == (int64_t)info->chars + 1);
}

/* Writes the attributes of a oneBLOB, corrected:
 *
 * size      is always written, as servers close the connection of a peer that omits it.  It is 0 only if there is no
 *           content: with size 0, libindi's clients ignore content, and take its descriptor for that of a later BLOB.
 * enclen    is only written where it is right and needed.
 * attached  depends on the form.
 * len       stays as received, unless inline content is sent as a descriptor.  Then it is the length of the content,
 *           and is added if `size` is larger, or is the length after decompression.  It is always there, and a number,
 *           if raw bytes follow. */
static void tz_write_blob_attrs(tz_writer *w, uint32_t i, const tz_blob_info *info) {
    const tz_token *t = &w->tok[i], *a;
    int beside = !info && tz_attached(w->tok, i, w->b);
    int attach = w->attached && (info || beside);
    int raw = attach && w->attached == 2;
    int size_done = 0, len_done = 0, compressed = 0;
    int64_t size = -1;
    for (uint32_t k = 1; k <= t->vlen; k++) {
        a = t + k;
        if (tz_is(w->b, a->a, a->alen, "enclen", 6)) {
            if (attach || !info || !tz_good_enclen(info, tz_integer(w->b + a->v, a->vlen))) continue;
        } else if (tz_is(w->b, a->a, a->alen, "attached", 8)) {
            continue;
        } else if (tz_is(w->b, a->a, a->alen, "size", 4)) {
            size_done = 1;
            size = tz_integer(w->b + a->v, a->vlen);
            if (size < (info ? 1 : 0)) {
                tz_write_number(w->out, "size", info ? info->decoded : 0);
                continue;
            }
        } else if (attach && (info || raw) && tz_is(w->b, a->a, a->alen, "len", 3)) {
            int64_t len = info ? (int64_t)info->decoded : tz_integer(w->b + a->v, a->vlen);
            if (len < 0) continue;  /* that is `size`, then */
            len_done = 1;
            tz_write_number(w->out, "len", (uint64_t)len);
            continue;
        } else if (tz_is(w->b, a->a, a->alen, "format", 6)) {
            compressed = a->vlen && (w->b[a->v + a->vlen - 1] | 32) == 'z'; /* .z .fz .gz */
        }
        tz_write_attr(w, a);
    }
    if (!size_done) tz_write_number(w->out, "size", info ? info->decoded : 0);
    if (attach && info && !len_done && (raw || size > (int64_t)info->decoded || (compressed && size > 0 && size < (int64_t)info->decoded)))
        tz_write_number(w->out, "len", info->decoded);
    if (raw && !info && !len_done) tz_write_number(w->out, "len", (uint64_t)size);
    if (raw) TZ_PUTS(w->out, " attached=\"raw\"");
    else if (attach) TZ_PUTS(w->out, " attached=\"true\"");
}

static void tz_read_text(tz_out *o, const uint8_t *b, const tz_token *t) {
    enum tz_how how = t->kind == TK_CDATA ? TV_CDATA : TV_TEXT;
    int odd = how == TV_CDATA ? (TF_ODD_TEXT & ~TF_AMP) : TF_ODD_TEXT;
    if (t->flags & odd) tz_read_value(o, b + t->v, t->vlen, t->flags, how);
    else tz_put(o, b + t->v, t->vlen);
}

static inline void tz_strip(const uint8_t **p, size_t *n) {
    while (*n && tz_class[**p] & TC_SPACE) (*p)++, (*n)--;
    while (*n && tz_class[(*p)[*n - 1]] & TC_SPACE) (*n)--;
}

/* Gathers the text tokens from j on and returns the index of the first other token.  The text is clean; *markup: it
 * must be escaped. */
static uint32_t tz_gather(tz_out *tmp, const uint8_t *b, const tz_token *tok, uint32_t j, const uint8_t **p, size_t *n,
                          int *markup) {
    const tz_token *t = &tok[j];
    *p = NULL;
    *n = 0;
    *markup = 0;
    if (t->kind == TK_TEXT && t[1].kind != TK_TEXT && t[1].kind != TK_CDATA && !(t->flags & TF_ODD_TEXT)) {
        *p = b + t->v;
        *n = t->vlen;
        *markup = t->flags & TF_MARK;
        return j + 1;
    }
    tmp->n = 0;
    while (t->kind == TK_TEXT || t->kind == TK_CDATA) {
        tz_read_text(tmp, b, t++);
        *markup = 1;
    }
    *p = tmp->p;
    *n = tmp->failed ? 0 : tmp->n;
    return (uint32_t)(t - tok);
}

static inline void tz_write_text(tz_writer *w, const uint8_t *p, size_t n, int markup) {
    if (markup) tz_escape(w->out, p, n, 0);
    else tz_put(w->out, p, n);
}

static inline void tz_indent(tz_out *o, int level) {
    size_t n = (size_t)level * 4;
    if (n && tz_reserve(o, n)) { memset(o->p + o->n, ' ', n); o->n += n; }
}

/* Returns whether the element whose content begins at token j contains other elements. */
static inline int tz_holds_elements(const tz_token *tok, uint32_t j) {
    while (tok[j].kind == TK_TEXT || tok[j].kind == TK_CDATA) j++;
    return tok[j].kind == TK_START;
}

/* Writes the element at token i and returns the index of the token after it.  verbatim: no white space may be added. */
static uint32_t tz_write_element(tz_writer *w, uint32_t i, int level, int verbatim) {
    const tz_token *tok = w->tok, *t = &tok[i];
    tz_out *o = w->out;
    uint32_t j = i + 1 + t->vlen;
    const uint8_t *p;
    size_t n;
    int markup, body = 0;
    int vector = level == 0 && w->vector;
    int text_member = verbatim || (level && (tz_is(w->b, t->a, t->alen, "oneText", 7) || tz_is(w->b, t->a, t->alen, "defText", 7)))
        || (!vector && tz_holds_elements(tok, j));  /* white space would be added between the pieces of its text */
    if (!verbatim) tz_indent(o, level);
    TZ_PUTS(o, "<");
    tz_put(o, w->b + t->a, t->alen);
    if (level == 1 && w->blob_root && tz_is(w->b, t->a, t->alen, "oneBLOB", 7)) {
        const tz_blob_info *info = tok[j].kind == TK_BLOB ? &w->blobs[tok[j].v] : NULL;
        if (info && !info->chars) info = NULL;
        tz_write_blob_attrs(w, i, info);
        if (tok[j].kind == TK_BLOB) j++;
        if (!w->attached && (info || tz_attached(tok, i, w->b))) {
            TZ_PUTS(o, ">\n");
            w->cuts[w->ncuts++] = o->n;
            TZ_PUTS(o, "\n    </oneBLOB>\n");
        } else TZ_PUTS(o, "/>\n");
        return j + 1;
    }
    for (uint32_t k = 1; k <= t->vlen; k++) {
        /* Outside a BLOB vector these announce nothing, but libindi believes them anyway. */
        if (tz_is(w->b, t[k].a, t[k].alen, "enclen", 6) || tz_is(w->b, t[k].a, t[k].alen, "attached", 8)) continue;
        tz_write_attr(w, t + k);
    }
    while (tok[j].kind != TK_END) {
        if (tok[j].kind == TK_START) {
            if (!body) { TZ_PUTS(o, ">"); if (!text_member) TZ_PUTS(o, "\n"); }
            body = 1;
            j = tz_write_element(w, j, level + 1, text_member);
            continue;
        }
        j = tz_gather(w->tmp2, w->b, tok, j, &p, &n, &markup);
        if (vector) continue;
        if (!text_member) tz_strip(&p, &n);
        if (!n) continue;
        if (!body) { TZ_PUTS(o, ">"); if (!text_member) TZ_PUTS(o, "\n"); }
        body = 1;
        tz_write_text(w, p, n, markup);
        if (!text_member) TZ_PUTS(o, "\n");
    }
    if (!body) TZ_PUTS(o, "/>");
    else {
        if (!text_member) tz_indent(o, level);
        TZ_PUTS(o, "</");
        tz_put(o, w->b + t->a, t->alen);
        TZ_PUTS(o, ">");
    }
    if (!verbatim) TZ_PUTS(o, "\n");
    return j + 1;
}

/* Counts the characters of the element that reading replaces. */
static uint32_t tz_count_replaced(const tz_token *tok, uint32_t n, const uint8_t *b, tz_out *tmp) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < n; i++)
        if (tok[i].flags & (TF_HIGH | TF_AMP | TF_CTRL) && tok[i].kind != TK_BLOB) {
            tmp->n = 0;
            count += tz_read_value(tmp, b + tok[i].v, tok[i].vlen, tok[i].flags,
                                   tok[i].kind == TK_ATTR ? TV_ATTR : tok[i].kind == TK_CDATA ? TV_CDATA : TV_TEXT);
        }
    return count;
}

#endif
