/* A library to preload into a program. It makes allocations fail, and counts allocated blocks. See scarce.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>

static void *(*next_malloc)(size_t);
static void *(*next_calloc)(size_t, size_t);
static void *(*next_realloc)(void *, size_t);
static void (*next_free)(void *);
static int before = -1, failing, refused, live;

/* Let the next `first` allocations succeed and the `count` after them fail. If `first` is negative, let all succeed. */
void scarce(int first, int count) {
    if (first >= 0) refused = 0;
    before = first;
    failing = count;
}

int scarce_refused(void) { return refused; }  /* allocations that failed since memory was made scarce */

int scarce_live(void) { return live; }  /* blocks that are allocated now */

static int refuse(void) {
    if (before < 0) return 0;
    if (before > 0) {
        before--;
        return 0;
    }
    if (failing == 0) return 0;
    failing--;
    refused++;
    errno = ENOMEM;
    return 1;
}

static void *count(void *block) {
    live += block != NULL;
    return block;
}

void *malloc(size_t n) {
    if (!next_malloc) next_malloc = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
    return refuse() ? NULL : count(next_malloc(n));
}

void *calloc(size_t number, size_t n) {
    if (!next_calloc) next_calloc = (void *(*)(size_t, size_t))dlsym(RTLD_NEXT, "calloc");
    return refuse() ? NULL : count(next_calloc(number, n));
}

void *realloc(void *old, size_t n) {
    void *block;
    if (!next_realloc) next_realloc = (void *(*)(void *, size_t))dlsym(RTLD_NEXT, "realloc");
    if (refuse()) return NULL;
    block = next_realloc(old, n);
    return old ? block : count(block);
}

void free(void *block) {
    static int looking;
    if (!next_free) {
        if (looking++) return;  /* dlsym itself frees the text of an earlier error */
        next_free = (void (*)(void *))dlsym(RTLD_NEXT, "free");
    }
    live -= block != NULL;
    next_free(block);
}
