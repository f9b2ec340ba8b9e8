/* Whole pages: memory that goes back to the system as soon as it is freed, and huge pages for large frames. */
#ifndef INDIFAST_PAGES_H
#define INDIFAST_PAGES_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

/* Memory of at least this size has pages of its own. AddressSanitizer watches over memory from malloc only. */
#if defined(__SANITIZE_ADDRESS__) || !defined(MAP_ANONYMOUS)
#define PAGES_OWN SIZE_MAX
#else
#define PAGES_OWN ((size_t)128 << 10)
#endif

/* Returns n bytes, or NULL.  malloc would keep most of them after a burst of large frames: after the first one is freed,
 * glibc takes blocks of this size from the heap, where small blocks soon lie between them. */
static inline void *pages_take(size_t n)
{
    if (n < PAGES_OWN) return malloc(n);
    void *pages = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return pages == MAP_FAILED ? NULL : pages;
}

/* Frees the n bytes that pages_take returned; NULL is allowed. */
static inline void pages_give(void *pages, size_t n)
{
    if (n < PAGES_OWN) free(pages);
    else if (pages != NULL) munmap(pages, n);
}

/* Blocks of this size share no page with others in any allocator: glibc maps each one separately
 * (M_MMAP_THRESHOLD_MAX). */
#define PAGES_LARGE ((size_t)32 << 20)
#define PAGES_HUGE ((uintptr_t)2 << 20)

/* Requests huge pages for a fresh block that is about to be filled, if it is large: the page faults would otherwise
 * take longer than decoding.  This only affects speed; a system that does not support the request ignores it. */
static inline void pages_will_fill(void *block, size_t n)
{
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (n >= PAGES_LARGE) {
        uintptr_t start = ((uintptr_t)block + PAGES_HUGE - 1) & ~(PAGES_HUGE - 1);
        uintptr_t end = ((uintptr_t)block + n) & ~(PAGES_HUGE - 1);
        madvise((void *)start, end - start, MADV_HUGEPAGE);
    }
#else
    (void)block, (void)n;
#endif
}

#endif
