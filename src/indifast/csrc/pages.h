/* Huge pages for the memory of large frames. */
#ifndef INDIFAST_PAGES_H
#define INDIFAST_PAGES_H

#include <stddef.h>
#include <stdint.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

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
