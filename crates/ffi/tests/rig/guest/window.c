/* Shares memory with the host through the files of a directory that is mounted with `dax`:
 *
 *     window DIRECTORY
 *
 * DIRECTORY/both is there: whole pages, each of which starts with its number. Here the guest writes the complement of the
 * number into each page's second word, and finds its triple, by the host's hand, in the third. DIRECTORY/new is the guest's.
 * A word is printed after each step, and a line waited for before the next.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PAGE = 4096, WORDS = PAGE / 8, NEW = 5 << 20 };

#define NEED(condition) \
    do { \
        if (!(condition)) { \
            printf("window.c:%d: %s: %m\n", __LINE__, #condition); \
            exit(1); \
        } \
    } while (0)

static void say(const char *word)
{
    char line[16];
    puts(word);
    fflush(stdout);
    NEED(fgets(line, sizeof line, stdin));
}

static volatile uint64_t *map(int fd, size_t size)
{
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    NEED(at != MAP_FAILED);
    return at;
}

int main(int argc, char **argv)
{
    struct statx attributes;
    NEED(argc == 2 && chdir(argv[1]) == 0);
    int fd = open("both", O_RDWR);
    NEED(fd >= 0 && statx(fd, "", AT_EMPTY_PATH, STATX_SIZE, &attributes) == 0);
    NEED(attributes.stx_attributes & STATX_ATTR_DAX);
    uint64_t pages = attributes.stx_size / PAGE;
    volatile uint64_t *both = map(fd, pages * PAGE);
    for (uint64_t page = 0; page < pages; page++) {
        NEED(both[page * WORDS] == page);
        both[page * WORDS + 1] = ~page;
    }
    /* Nothing is synced, and the mapping stays. */
    say("written");
    for (uint64_t page = 0; page < pages; page++)
        NEED(both[page * WORDS + 2] == page * 3);
    say("seen");

    int new = open("new", O_RDWR | O_CREAT | O_EXCL, 0644);
    NEED(new >= 0 && ftruncate(new, NEW) == 0);
    void *at = (void *)map(new, NEW);
    memset(at, 'n', NEW);
    NEED(pwrite(new, "by a call", 9, NEW - 9) == 9);
    say("made");
    NEED(ftruncate(new, PAGE) == 0 && pwrite(new, "end", 3, PAGE) == 3);
    /* What is mapped follows. */
    NEED(memcmp((char *)at + PAGE - 1, "nend", 5) == 0);
    return 0;
}
