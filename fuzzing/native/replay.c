/* Runs a native target without libFuzzer, for compilers that have none: each argument is a file with an input, or a
 * folder of them.  `-mutations=N` and `-seed=S` add N inputs made of these, the same ones for the same seed. */
#include "harness.h"

#include <dirent.h>
#include <sys/stat.h>

enum { LONGEST = 4096, MOST = 20000 };

static uint8_t *inputs[MOST];
static size_t sizes[MOST];
static size_t count;
static uint64_t state;

static size_t number(size_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (size_t)(state >> 20) % below;
}

static void add(const char *path)
{
    struct stat found;
    CHECK(!stat(path, &found));
    if (S_ISDIR(found.st_mode)) {
        struct dirent **entries;
        int n = scandir(path, &entries, NULL, alphasort);
        CHECK(n >= 0);
        for (int i = 0; i < n; i++) {
            char name[4096];
            snprintf(name, sizeof name, "%s/%s", path, entries[i]->d_name);
            if (*entries[i]->d_name != '.')
                add(name);
            free(entries[i]);
        }
        free(entries);
        return;
    }
    FILE *file = fopen(path, "rb");
    CHECK(file && count < MOST);
    size_t size = (size_t)found.st_size;
    uint8_t *data = malloc(size ? size : 1);
    CHECK(data && fread(data, 1, size, file) == size);
    fclose(file);
    inputs[count] = data;
    sizes[count++] = size;
}

static void run(const uint8_t *data, size_t size)
{
    uint8_t *exact = exactly(data, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
}

/* One change: a byte, a bit, some bytes less, or a piece of another input. */
static size_t change(uint8_t *data, size_t size)
{
    size_t at = number(size + 1);
    switch (number(4)) {
    case 0:
        if (at < size)
            data[at] = (uint8_t)number(256);
        return size;
    case 1:
        if (at < size)
            data[at] ^= (uint8_t)(1u << number(8));
        return size;
    case 2: {
        size_t n = number(20);
        if (at + n > size)
            n = size - at;
        memmove(data + at, data + at + n, size - at - n);
        return size - n;
    }
    }
    size_t other = number(count), from = number(sizes[other] + 1), n = number(200);
    if (from + n > sizes[other])
        n = sizes[other] - from;
    if (size + n > LONGEST)
        return size;
    memmove(data + at + n, data + at, size - at);
    memcpy(data + at, inputs[other] + from, n);
    return size + n;
}

int main(int argc, char **argv)
{
    unsigned long mutations = 0, seed = 1;
    for (int i = 1; i < argc; i++)
        if (sscanf(argv[i], "-mutations=%lu", &mutations) != 1 && sscanf(argv[i], "-seed=%lu", &seed) != 1)
            add(argv[i]);
    CHECK(count);
    for (size_t i = 0; i < count; i++)
        run(inputs[i], sizes[i]);
    state = seed * 2654435761u + 88172645463325252u;
    for (unsigned long k = 0; k < mutations; k++) {
        static uint8_t data[LONGEST];
        size_t from = number(count), size = sizes[from] < LONGEST ? sizes[from] : LONGEST;
        memcpy(data, inputs[from], size);
        for (size_t changes = 1 + number(5); changes; changes--)
            size = change(data, size);
        run(data, size);
    }
    printf("%zu inputs, %lu mutations\n", count, mutations);
    for (size_t i = 0; i < count; i++)
        free(inputs[i]);
    return 0;
}
