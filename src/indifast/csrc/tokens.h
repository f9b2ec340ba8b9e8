/* The scanner of the tokenizer: one pass over the bytes of one root element, resumable at any byte.
 *
 * The caller keeps the bytes of the unfinished root contiguous; every offset counts from the root's '<'.  A scan notes
 * spans (tokens), builds nothing and looks at no byte twice, except for the few bytes behind a '<' that may begin the
 * start tag of a known root.  The text of a BLOB is taken out of these bytes: the scanner stops there (TZ_BLOB) and goes
 * on behind it.
 */
#ifndef INDIFAST_TOKENS_H
#define INDIFAST_TOKENS_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* What a run of characters holds. */
enum {
    TF_HIGH = 1,      /* bytes >= 0x80 */
    TF_AMP = 2,       /* '&' */
    TF_CTRL = 4,      /* control characters that XML forbids */
    TF_MARK = 8,      /* '>' '"' '<': written as references */
    TF_CR = 16,       /* carriage return */
    TF_NL = 32,       /* tab, line feed */
    TF_INK = 64,      /* anything but white space */
    TF_LT = 128       /* '<': ends a text run */
};

enum { TK_START = 1, TK_ATTR, TK_TEXT, TK_CDATA, TK_BLOB, TK_END };

typedef struct {
    uint32_t a, alen;     /* name of a tag or attribute */
    uint32_t v, vlen;     /* value or text; TK_BLOB: v is the index of the BLOB */
    uint8_t kind, flags;
    uint16_t attrs;       /* TK_START: number of attributes that follow; TK_ATTR: 1 when the name is odd */
} tz_token;

enum {
    TZ_MORE,              /* all bytes are scanned */
    TZ_DONE,              /* the root closed at the position */
    TZ_BLOB,              /* at the position, the text of a oneBLOB begins or goes on */
    TZ_BLOB_END,          /* that oneBLOB has closed */
    TZ_SKIP,              /* not a root, but well-formed: comment, declaration */
    TZ_JUNK,              /* not a root */
    TZ_REFUSE             /* damaged; see reason; go on at resume */
};

enum {
    TZ_R_TRUNCATED, TZ_R_SYNTAX, TZ_R_MISMATCH, TZ_R_ATTRIBUTE, TZ_R_ELEMENT, TZ_R_DEPTH, TZ_R_MEMBERS, TZ_R_MARKUP,
    TZ_R_DUPLICATE, TZ_R_BASE64, TZ_R_BLOB, TZ_R_ABANDONED, TZ_R_JUNK, TZ_R_MEMORY, TZ_R_ATTACHED
};

enum { TZ_MAX_DEPTH = 64, TZ_MAX_NAME = 256, TZ_MAX_ATTRS = 128 };

typedef struct {
    /* limits */
    size_t lim_attr, lim_elem;
    uint32_t lim_depth, lim_members;
    /* the root's tokens */
    tz_token *tok;
    uint32_t ntok, captok;
    /* where we are */
    uint8_t state, ret, quote, flags, bracket, odd;
    uint8_t root;          /* kind of the root, 0: none yet */
    uint8_t in_blob, elem_flags;
    uint8_t reason;
    uint32_t depth, members, nblobs, attached;
    uint32_t last_attached; /* the oneBLOB that is open announces a descriptor */
    size_t mark, lt, name, name_len, resume;
    uint32_t stack[TZ_MAX_DEPTH];
    /* no "-->" ends and no "]]>" ends before these positions of the stream */
    uint64_t base, no_comment_end, no_cdata_end;
} tz_scan_state;

static const char *const tz_roots[] = {
    "", "message", "pingReply", "enableBLOB", "delProperty", "pingRequest", "getProperties",
    "newTextVector", "defTextVector", "setTextVector", "newBLOBVector", "defBLOBVector", "setBLOBVector",
    "defLightVector", "setLightVector",
    "newNumberVector", "defNumberVector", "setNumberVector", "newSwitchVector", "defSwitchVector", "setSwitchVector"
};
enum { TZ_NEW_BLOB = 10, TZ_SET_BLOB = 12, TZ_ROOTS = 21, TZ_MIN_ROOT = 7, TZ_MAX_ROOT = 15 };

static inline int tz_known_root(const uint8_t *p, size_t n) {
    static const uint8_t first[] = {[7] = 1, [9] = 2, [10] = 3, [11] = 4, [13] = 6, [14] = 13, [15] = 15};
    static const uint8_t last[] = {[7] = 2, [9] = 3, [10] = 4, [11] = 6, [13] = 13, [14] = 15, [15] = 21};
    if (n < TZ_MIN_ROOT || n > TZ_MAX_ROOT) return 0;
    for (int k = (n == 8 || n == 12) ? 99 : first[n]; k < last[n]; k++)
        if (memcmp(p, tz_roots[k], n) == 0) return k;
    return 0;
}

/* Names are those that libindi's parser knows: [A-Za-z_][A-Za-z0-9_]*.  Attribute names may also have '-', ':' and '.'
 * (TC_ODD); as libindi fails on them, such an attribute is read but never written. */
enum { TC_NAME = 1, TC_START = 2, TC_SPACE = 4, TC_DELIM = 8, TC_ODD = 16 };

static uint8_t tz_class[256];
static uint8_t tz_flags[256];

static void tz_init_tables(void) {
    for (int c = 0; c < 256; c++) {
        uint8_t k = 0, f = 0;
        int alpha = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        int space = c == ' ' || c == '\t' || c == '\n' || c == '\r';
        if (alpha) k |= TC_NAME | TC_START;
        if (c >= '0' && c <= '9') k |= TC_NAME;
        if (c == '-' || c == ':' || c == '.') k |= TC_ODD;
        if (space) k |= TC_SPACE;
        if (space || c == '/' || c == '>') k |= TC_DELIM;
        if (c >= 0x80) f |= TF_HIGH;
        if (c == '&') f |= TF_AMP;
        if (c < 0x20 && !space) f |= TF_CTRL;
        if (c == '>' || c == '"' || c == '<') f |= TF_MARK;
        if (c == '\r') f |= TF_CR;
        if (c == '\t' || c == '\n') f |= TF_NL;
        if (!space) f |= TF_INK;
        if (c == '<') f |= TF_LT;
        tz_class[c] = k;
        tz_flags[c] = f;
    }
}

enum { S_LT, S_NAME, S_TAG, S_EMPTY, S_ANAME, S_AEQ, S_AQ, S_VAL, S_INNER_LT, S_TEXT, S_ENDNAME, S_ENDWS, S_BANG,
       S_COMMENT, S_CDATA, S_PI, S_DECL };

/* Prepare for a candidate: its '<' is at offset 0, the scan goes on at offset 1. */
static inline void tz_begin(tz_scan_state *s) {
    s->ntok = 0;
    s->state = S_LT;
    s->root = s->in_blob = s->elem_flags = 0;
    s->depth = s->members = s->nblobs = s->attached = s->last_attached = 0;
    s->lt = 0;
}

static int tz_grow(tz_scan_state *s) {
    uint32_t cap = s->captok ? s->captok * 2 : 64;
    tz_token *t = (tz_token *)realloc(s->tok, (size_t)cap * sizeof(tz_token));
    if (!t) return 0;
    s->tok = t;
    s->captok = cap;
    return 1;
}

static inline tz_token *tz_push(tz_scan_state *s, int kind, size_t a, size_t alen, size_t v, size_t vlen, int flags) {
    if (s->ntok == s->captok && !tz_grow(s)) return NULL;
    tz_token *t = &s->tok[s->ntok++];
    t->kind = (uint8_t)kind;
    t->flags = (uint8_t)flags;
    t->attrs = 0;
    t->a = (uint32_t)a;
    t->alen = (uint32_t)alen;
    t->v = (uint32_t)v;
    t->vlen = (uint32_t)vlen;
    return t;
}

static inline int tz_is(const uint8_t *b, size_t at, size_t n, const char *word, size_t wn) {
    return n == wn && memcmp(b + at, word, wn) == 0;
}

/* The attribute of the start tag at token i, or NULL. */
static inline const tz_token *tz_attr(const tz_token *tok, uint32_t i, const uint8_t *b, const char *word, size_t wn) {
    for (uint32_t k = i + 1, e = i + 1 + tok[i].attrs; k < e; k++)
        if (tz_is(b, tok[k].a, tok[k].alen, word, wn)) return &tok[k];
    return NULL;
}

/* A non-negative integer between white space, of at most 18 digits; -1 for anything else. */
static int64_t tz_integer(const uint8_t *p, size_t n) {
    int64_t value = 0;
    size_t digits = 0;
    while (n && tz_class[*p] & TC_SPACE) p++, n--;
    while (n && tz_class[p[n - 1]] & TC_SPACE) n--;
    for (; n; p++, n--, digits++) {
        if (*p < '0' || *p > '9' || digits == 18) return -1;
        value = value * 10 + (*p - '0');
    }
    return digits ? value : -1;
}

static int tz_duplicates(const tz_token *t, uint32_t n, const uint8_t *b) {
    for (uint32_t i = 1; i < n; i++)
        for (uint32_t k = 0; k < i; k++)
            if (t[i].alen == t[k].alen && b[t[i].a] == b[t[k].a] && memcmp(b + t[i].a, b + t[k].a, t[i].alen) == 0)
                return 1;
    return 0;
}

/* Does this oneBLOB announce a descriptor? (libindi: attached='true', and a size above 0) */
static int tz_attached(const tz_token *tok, uint32_t i, const uint8_t *b) {
    const tz_token *t = tz_attr(tok, i, b, "attached", 8), *size;
    if (!t || !tz_is(b, t->v, t->vlen, "true", 4)) return 0;
    size = tz_attr(tok, i, b, "size", 4);
    return size && tz_integer(b + size->v, size->vlen) > 0;
}

#define TZ_RETURN(ev) do { s->flags = flags; *pp = p; return (ev); } while (0)
#define TZ_DAMAGE(why, at) do { s->reason = (why); s->resume = (at); TZ_RETURN(TZ_REFUSE); } while (0)
/* Damage outside of an element is junk. */
#define TZ_STRAY(why, at) do { if (s->depth == 0) { s->resume = (at); TZ_RETURN(TZ_JUNK); } TZ_DAMAGE(why, at); } while (0)
/* The bytes end here: because there are no more yet, or because the element has reached its limit. */
#define TZ_STARVED(keep) do { \
        if (limited) TZ_STRAY(TZ_R_ELEMENT, (keep)); \
        TZ_RETURN(TZ_MORE); } while (0)

static int tz_scan(tz_scan_state *s, const uint8_t *b, size_t *pp, size_t end) {
    size_t p = *pp, e;
    uint8_t flags = s->flags, c;
    int kind;
    int limited = end > s->lim_elem;
    if (limited) end = s->lim_elem;

#define GO(st) do { s->state = (st); goto st##_; } while (0)
    switch (s->state) {
    case S_LT: goto S_LT_;
    case S_NAME: goto S_NAME_;
    case S_TAG: goto S_TAG_;
    case S_EMPTY: goto S_EMPTY_;
    case S_ANAME: goto S_ANAME_;
    case S_AEQ: goto S_AEQ_;
    case S_AQ: goto S_AQ_;
    case S_VAL: goto S_VAL_;
    case S_INNER_LT: goto S_INNER_LT_;
    case S_TEXT: goto S_TEXT_;
    case S_ENDNAME: goto S_ENDNAME_;
    case S_ENDWS: goto S_ENDWS_;
    case S_BANG: goto S_BANG_;
    case S_COMMENT: goto S_COMMENT_;
    case S_CDATA: goto S_CDATA_;
    case S_PI: goto S_PI_;
    default: goto S_DECL_;
    }

S_LT_:
    if (p >= end) TZ_STARVED(s->lt);
    c = b[p];
    if (tz_class[c] & TC_START) { s->mark = p; GO(S_NAME); }
    if (c == '/' && s->depth) { s->mark = ++p; GO(S_ENDNAME); }
    if (c == '!') { p++; GO(S_BANG); }
    if (c == '?') { s->mark = ++p; GO(S_PI); }
    TZ_STRAY(TZ_R_SYNTAX, p);

S_NAME_:
    while (p < end && tz_class[b[p]] & TC_NAME) p++;
    if (p - s->mark > TZ_MAX_NAME) TZ_STRAY(TZ_R_SYNTAX, p);
    if (p >= end) TZ_STARVED(s->lt);
    kind = tz_class[b[p]] & TC_DELIM ? tz_known_root(b + s->mark, p - s->mark) : 0;
    if (s->depth == 0) {
        if (!kind) { s->resume = p; TZ_RETURN(TZ_JUNK); }
        s->root = (uint8_t)kind;
    } else {
        if (kind) TZ_DAMAGE(TZ_R_TRUNCATED, s->lt);
        if (!(tz_class[b[p]] & TC_DELIM)) TZ_DAMAGE(TZ_R_SYNTAX, p);
        if (s->in_blob) TZ_DAMAGE(TZ_R_BASE64, p);
        if (s->depth >= s->lim_depth) TZ_DAMAGE(TZ_R_DEPTH, p);
        if (++s->members > s->lim_members) TZ_DAMAGE(TZ_R_MEMBERS, p);
    }
    s->stack[s->depth++] = s->ntok;
    if (!tz_push(s, TK_START, s->mark, p - s->mark, 0, 0, 0)) TZ_DAMAGE(TZ_R_MEMORY, p);
    GO(S_TAG);

S_TAG_:
    while (p < end && tz_class[b[p]] & TC_SPACE) p++;
    if (p >= end) TZ_STARVED(p);
    c = b[p];
    if (tz_class[c] & (TC_START | TC_ODD)) { s->mark = p; s->odd = 0; GO(S_ANAME); }
    if (c == '>') { p++; goto opened; }
    if (c == '/') { p++; GO(S_EMPTY); }
    TZ_DAMAGE(TZ_R_SYNTAX, p);

S_ANAME_:
    for (;; s->odd = 1, p++) {
        while (p < end && tz_class[b[p]] & TC_NAME) p++;
        if (p >= end || !(tz_class[b[p]] & TC_ODD)) break;
    }
    if (p - s->mark > TZ_MAX_NAME) TZ_DAMAGE(TZ_R_SYNTAX, p);
    if (p >= end) TZ_STARVED(p);
    s->name = s->mark;
    s->name_len = p - s->mark;
    GO(S_AEQ);

S_AEQ_:
    while (p < end && tz_class[b[p]] & TC_SPACE) p++;
    if (p >= end) TZ_STARVED(p);
    if (b[p] != '=') TZ_DAMAGE(TZ_R_SYNTAX, p);
    p++;
    GO(S_AQ);

S_AQ_:
    while (p < end && tz_class[b[p]] & TC_SPACE) p++;
    if (p >= end) TZ_STARVED(p);
    c = b[p];
    if (c != '"' && c != '\'') TZ_DAMAGE(TZ_R_SYNTAX, p);
    s->quote = c;
    s->mark = ++p;
    flags = 0;
    GO(S_VAL);

S_VAL_:
    e = s->mark + s->lim_attr + 1;  /* the closing quote stands before e */
    if (e > end) e = end;
    for (;;) {
        if (p >= e) {
            if (p > s->mark + s->lim_attr) TZ_DAMAGE(TZ_R_ATTRIBUTE, p);
            TZ_STARVED(p);
        }
        c = b[p];
        if (c == s->quote) break;
        flags |= tz_flags[c];
        if (c == '<') { s->lt = p++; s->ret = S_VAL; GO(S_INNER_LT); }
        p++;
    }
    {
        tz_token *start = &s->tok[s->stack[s->depth - 1]];
        if (start->attrs >= TZ_MAX_ATTRS) TZ_DAMAGE(TZ_R_SYNTAX, p);
        start->attrs++;
    }
    flags &= (uint8_t)~TF_LT;
    s->elem_flags |= flags;
    if (!tz_push(s, TK_ATTR, s->name, s->name_len, s->mark, p - s->mark, flags)) TZ_DAMAGE(TZ_R_MEMORY, p);
    s->tok[s->ntok - 1].attrs = s->odd;
    p++;
    GO(S_TAG);

S_INNER_LT_:  /* behind a '<' in a value, an instruction or a declaration: does a known root begin here? */
    e = s->lt + 1 + TZ_MAX_ROOT + 1;
    if (e > end) e = end;
    while (p < e && tz_class[b[p]] & TC_NAME) p++;
    if (p - s->lt - 1 <= TZ_MAX_ROOT) {
        if (p >= end) TZ_STARVED(s->lt);
        if (tz_class[b[p]] & TC_DELIM && tz_known_root(b + s->lt + 1, p - s->lt - 1))
            TZ_STRAY(TZ_R_TRUNCATED, s->lt);
    }
    p = s->lt + 1;
    s->state = s->ret;
    if (s->ret == S_VAL) goto S_VAL_;
    if (s->ret == S_PI) goto S_PI_;
    goto S_DECL_;

S_EMPTY_:
    if (p >= end) TZ_STARVED(p);
    if (b[p] != '>') TZ_DAMAGE(TZ_R_SYNTAX, p);
    p++;
opened:
    {
        uint32_t i = s->stack[s->depth - 1];
        const tz_token *t = &s->tok[i];
        int empty = s->state == S_EMPTY;
        if (t->attrs > 1 && tz_duplicates(t + 1, t->attrs, b)) TZ_DAMAGE(TZ_R_DUPLICATE, p);
        s->mark = p;
        s->state = S_TEXT;
        flags = 0;
        if (s->depth == 2 && (s->root == TZ_SET_BLOB || s->root == TZ_NEW_BLOB) && tz_is(b, t->a, t->alen, "oneBLOB", 7)) {
            s->last_attached = (uint32_t)tz_attached(s->tok, i, b);
            s->attached += s->last_attached;
            if (!empty) {
                s->in_blob = 1;
                TZ_RETURN(TZ_BLOB);
            }
        }
        if (empty) goto closed;
    }

S_TEXT_:
    if (s->in_blob) {
        if (p < end && b[p] != '<') TZ_RETURN(TZ_BLOB);
    } else
        while (p < end) {
            uint8_t f = tz_flags[b[p]];
            if (f & TF_LT) break;
            flags |= f;
            p++;
        }
    if (p >= end) TZ_STARVED(p);
    if (p > s->mark && (flags & TF_INK || s->depth > 1)) {
        s->elem_flags |= flags;
        if (!tz_push(s, TK_TEXT, 0, 0, s->mark, p - s->mark, flags)) TZ_DAMAGE(TZ_R_MEMORY, p);
    }
    s->lt = p++;
    GO(S_LT);

S_ENDNAME_:
    while (p < end && tz_class[b[p]] & TC_NAME) p++;
    if (p - s->mark > TZ_MAX_NAME) TZ_DAMAGE(TZ_R_SYNTAX, p);
    if (p >= end) TZ_STARVED(p);
    {
        const tz_token *t = &s->tok[s->stack[s->depth - 1]];
        if (p - s->mark != t->alen || memcmp(b + s->mark, b + t->a, t->alen)) TZ_DAMAGE(TZ_R_MISMATCH, p);
    }
    GO(S_ENDWS);

S_ENDWS_:
    while (p < end && tz_class[b[p]] & TC_SPACE) p++;
    if (p >= end) TZ_STARVED(p);
    if (b[p] != '>') TZ_DAMAGE(TZ_R_SYNTAX, p);
    p++;
    if (s->in_blob) {
        if (!tz_push(s, TK_BLOB, 0, 0, s->nblobs, 0, 0) || !tz_push(s, TK_END, 0, 0, 0, 0, 0)) TZ_DAMAGE(TZ_R_MEMORY, p);
        s->in_blob = 0;
        s->nblobs++;
        s->depth--;
        s->mark = p;
        s->state = S_TEXT;
        flags = 0;
        TZ_RETURN(TZ_BLOB_END);
    }
closed:
    if (!tz_push(s, TK_END, 0, 0, 0, 0, 0)) TZ_DAMAGE(TZ_R_MEMORY, p);
    if (--s->depth == 0) TZ_RETURN(TZ_DONE);
    s->mark = p;
    flags = 0;
    GO(S_TEXT);

S_BANG_:  /* at p: behind "<!" */
    if (p >= end) TZ_STARVED(s->lt);
    if (b[p] == '-') {
        if (p + 1 >= end) TZ_STARVED(s->lt);
        if (b[p + 1] == '-') {
            p += 2;
            s->mark = p;
            GO(S_COMMENT);
        }
    } else if (b[p] == '[') {
        size_t n = end - p < 7 ? end - p : 7;
        if (memcmp(b + p, "[CDATA[", n) == 0) {
            if (n < 7) TZ_STARVED(s->lt);
            p += 7;
            s->mark = p;
            if (s->in_blob) TZ_DAMAGE(TZ_R_BASE64, p);
            GO(S_CDATA);
        }
    }
    s->mark = p;
    s->quote = 0;
    s->bracket = 0;
    GO(S_DECL);

S_COMMENT_:
    {
        size_t limit = s->mark + s->lim_attr;
        uint64_t known = s->no_comment_end;
        if (known > s->base + p) p = (size_t)(known - s->base);
        e = end < limit ? end : limit;
        while (p < e) {
            const uint8_t *q = (const uint8_t *)memchr(b + p, '>', e - p);
            if (!q) { p = e; break; }
            p = (size_t)(q - b) + 1;
            if (p - s->mark >= 3 && b[p - 2] == '-' && b[p - 3] == '-') goto skipped;
        }
        if (p >= limit) {
            if (s->base + p > s->no_comment_end) s->no_comment_end = s->base + p;
            TZ_STRAY(TZ_R_MARKUP, s->mark);
        }
        TZ_STARVED(p);
    }

S_CDATA_:
    {
        size_t limit = s->mark + s->lim_attr;
        uint64_t known = s->no_cdata_end;
        if (known > s->base + p) p = (size_t)(known - s->base);
        e = end < limit ? end : limit;
        while (p < e) {
            const uint8_t *q = (const uint8_t *)memchr(b + p, '>', e - p);
            if (!q) { p = e; break; }
            p = (size_t)(q - b) + 1;
            if (p - s->mark >= 3 && b[p - 2] == ']' && b[p - 3] == ']') {
                if (s->depth == 0) { s->resume = p; TZ_RETURN(TZ_JUNK); }
                flags = 0;
                for (size_t k = s->mark; k + 3 < p; k++) flags |= tz_flags[b[k]];
                flags &= (uint8_t)~TF_LT;
                s->elem_flags |= flags;
                if (p - 3 > s->mark && (flags & TF_INK || s->depth > 1))
                    if (!tz_push(s, TK_CDATA, 0, 0, s->mark, p - 3 - s->mark, flags)) TZ_DAMAGE(TZ_R_MEMORY, p);
                goto skipped;
            }
        }
        if (p >= limit) {
            if (s->base + p > s->no_cdata_end) s->no_cdata_end = s->base + p;
            TZ_STRAY(TZ_R_MARKUP, s->mark);
        }
        TZ_STARVED(p);
    }

S_PI_:
    e = s->mark + s->lim_attr;
    if (e > end) e = end;
    for (; p < e; p++) {
        c = b[p];
        if (c == '>' && p > s->mark && b[p - 1] == '?') { p++; goto skipped; }
        if (c == '<') { s->lt = p++; s->ret = S_PI; GO(S_INNER_LT); }
    }
    if (p >= s->mark + s->lim_attr) TZ_STRAY(TZ_R_MARKUP, p);
    TZ_STARVED(p);

S_DECL_:
    e = s->mark + s->lim_attr;
    if (e > end) e = end;
    for (; p < e; p++) {
        c = b[p];
        if (c == '<') { s->lt = p++; s->ret = S_DECL; GO(S_INNER_LT); }
        if (s->quote) {
            if (c == s->quote) s->quote = 0;
        } else if (c == '"' || c == '\'') s->quote = c;
        else if (c == '[') s->bracket = 1;
        else if (c == ']') s->bracket = 0;
        else if (c == '>' && !s->bracket) { p++; goto skipped; }
    }
    if (p >= s->mark + s->lim_attr) TZ_STRAY(TZ_R_MARKUP, p);
    TZ_STARVED(p);

skipped:  /* a comment or the like has ended at p */
    if (s->depth == 0) { s->resume = p; TZ_RETURN(TZ_SKIP); }
    s->mark = p;
    flags = 0;
    GO(S_TEXT);
}
#undef GO

#endif
