/* Measures a file system by the guest's (or the host's) clock, and prints the samples:
 *
 *     fs DIRECTORY [TAG]
 *
 * With TAG it mounts that virtio-fs share on DIRECTORY first. DIRECTORY holds a file `read` of 64 MiB that nobody has read
 * since the mount, and an empty directory `new`.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MIB = 1 << 20, SIZE = 64, FILES = 400 };

static char buffer[MIB];

static void need(int good, const char *what)
{
    if (!good) {
        perror(what);
        exit(1);
    }
}

static long microseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void read_all(void)
{
    int fd = open("read", O_RDONLY);
    need(fd >= 0, "read");
    for (int i = 0; i < SIZE; i++)
        need(read(fd, buffer, MIB) == MIB, "read");
    close(fd);
}

static void write_all(void)
{
    int fd = open("new/write", O_WRONLY | O_CREAT | O_TRUNC, 0644);
    need(fd >= 0, "new/write");
    for (int i = 0; i < SIZE; i++)
        need(write(fd, buffer, MIB) == MIB, "write");
    close(fd);
}

static void create(void)
{
    for (int i = 0; i < FILES; i++) {
        char name[32];
        snprintf(name, sizeof name, "new/file%d", i);
        int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
        need(fd >= 0, name);
        need(write(fd, "x\n", 2) == 2, name);
        close(fd);
    }
}

static void list(void)
{
    for (int i = 0; i < FILES; i++) {
        char name[32];
        struct stat st;
        snprintf(name, sizeof name, "old/file%d", i);
        need(stat(name, &st) == 0, name);
    }
}

static void take(const char *name, void (*work)(void))
{
    long before = microseconds();
    work();
    printf("sample %s %ld us\n", name, microseconds() - before);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    need(argc >= 2, "usage");
    if (argc == 3)
        need(mount(argv[2], argv[1], "virtiofs", 0, "") == 0, "mount");
    need(chdir(argv[1]) == 0, argv[1]);
    take("read-64MiB", read_all);
    take("write-64MiB", write_all);
    take("create-400", create);
    take("stat-400", list);
    return 0;
}
