/* Contents: reading, writing, mapping, space. */
#include "rules.h"

#include <sys/statvfs.h>
#include <sys/uio.h>
#include <sys/xattr.h>

static void appending_writes_go_to_the_end(void)
{
    put("f", "start ");
    int fd = open("f", O_RDWR | O_APPEND), other = open("f", O_WRONLY | O_APPEND);
    HOLDS(write(other, "one ", 4) == 4);
    HOLDS(lseek(fd, 0, SEEK_SET) == 0 && write(fd, "two", 3) == 3);
    HOLDS(text_is("f", "start one two"));
    HOLDS(ftruncate(fd, 3) == 0 && write(other, "!", 1) == 1 && text_is("f", "sta!"));
    HOLDS(open("f", O_WRONLY | O_TRUNC) >= 0 && look("f").st_size == 0);
}

static void sizes_change(void)
{
    put("f", "0123456789");
    char buffer[16];
    HOLDS(truncate("f", 4) == 0 && text_is("f", "0123"));
    HOLDS(truncate("f", 8) == 0);
    int fd = open("f", O_RDONLY), writer = open("f", O_WRONLY);
    HOLDS(read(fd, buffer, 16) == 8 && memcmp(buffer, "0123\0\0\0\0", 8) == 0);
    HOLDS(read(fd, buffer, 16) == 0);
    FAILS(EINVAL, ftruncate(fd, 0));
    FAILS(EINVAL, truncate("f", -1));
    HOLDS(mkdir("d", 0755) == 0);
    FAILS(EISDIR, truncate("d", 0));
    FAILS(ENOENT, truncate("none", 0));
    FAILS(EBADF, write(fd, "x", 1));
    FAILS(EBADF, read(writer, buffer, 1));
    FAILS(EISDIR, read(open("d", O_RDONLY), buffer, 1));
}

static void large_and_sparse(void)
{
    const off_t far = (off_t)5 << 30;
    int fd = open("f", O_RDWR | O_CREAT, 0644);
    char buffer[4] = "far";
    HOLDS(pwrite(fd, buffer, 3, far) == 3 && look("f").st_size == far + 3);
    HOLDS(look("f").st_blocks < 10000);
    HOLDS(pread(fd, buffer, 3, 4096) == 3 && memcmp(buffer, "\0\0\0", 3) == 0);
    HOLDS(pread(fd, buffer, 4, far) == 3 && memcmp(buffer, "far", 3) == 0);
    HOLDS(lseek(fd, 0, SEEK_END) == far + 3 && lseek(fd, 0, SEEK_HOLE) >= 0);
    HOLDS(lseek(fd, 0, SEEK_DATA) > 0 || lseek(fd, 0, SEEK_DATA) == 0);
    FAILS(ENXIO, lseek(fd, far + 3, SEEK_DATA));
}

static void vectors_and_shared_offsets(void)
{
    int fd = open("f", O_RDWR | O_CREAT, 0644), twin = dup(fd);
    struct iovec out[2] = { { "abc", 3 }, { "defg", 4 } };
    HOLDS(writev(fd, out, 2) == 7 && lseek(twin, 0, SEEK_CUR) == 7);
    char one[2], two[9];
    struct iovec in[2] = { { one, 2 }, { two, 9 } };
    HOLDS(preadv(fd, in, 2, 1) == 6 && memcmp(one, "bc", 2) == 0 && memcmp(two, "defg", 4) == 0);
}

static void large_transfers_keep_their_bytes(void)
{
    enum { SIZE = 3 * (1 << 20) + 777 };
    unsigned char *data = malloc(SIZE), *back = malloc(SIZE);
    for (int i = 0; i < SIZE; i++)
        data[i] = (unsigned char)(i * 7 + i / 251);
    int fd = open("f", O_RDWR | O_CREAT, 0644);
    for (int done = 0; done < SIZE;) {
        ssize_t more = write(fd, data + done, SIZE - done);
        HOLDS(more > 0);
        done += more;
    }
    HOLDS(fsync(fd) == 0 && fdatasync(fd) == 0 && close(fd) == 0);
    posix_fadvise(fd = open("f", O_RDONLY), 0, 0, POSIX_FADV_DONTNEED);
    for (int done = 0; done < SIZE;) {
        ssize_t more = read(fd, back + done, SIZE - done);
        HOLDS(more > 0);
        done += more;
    }
    HOLDS(memcmp(data, back, SIZE) == 0);
}

static void mappings_are_the_file(void)
{
    int fd = open("f", O_RDWR | O_CREAT, 0644);
    HOLDS(ftruncate(fd, 3 * 4096) == 0);
    char *one = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *two = mmap(NULL, 4096, PROT_READ, MAP_SHARED, open("f", O_RDONLY), 4096);
    char *own = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    HOLDS(one != MAP_FAILED && two != MAP_FAILED && own != MAP_FAILED);
    memcpy(one + 4096, "shared", 6);
    HOLDS(memcmp(two, "shared", 6) == 0);
    memcpy(own, "private", 7);
    HOLDS(msync(one, 3 * 4096, MS_SYNC) == 0);
    char buffer[8];
    HOLDS(pread(fd, buffer, 6, 4096) == 6 && memcmp(buffer, "shared", 6) == 0);
    HOLDS(pread(fd, buffer, 7, 0) == 7 && buffer[0] == '\0');
    HOLDS(pwrite(fd, "written", 7, 4096) == 7 && memcmp(two, "written", 7) == 0);
    HOLDS(close(fd) == 0);
    memcpy(one, "after close", 11);
    HOLDS(munmap(one, 3 * 4096) == 0);
    fd = open("f", O_RDONLY);
    HOLDS(pread(fd, buffer, 5, 0) == 5 && memcmp(buffer, "after", 5) == 0);
}

static void mappings_do_not_append(void)
{
    put("f", "0123456789");
    int fd = open("f", O_RDWR | O_APPEND);
    char *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    HOLDS(map != MAP_FAILED);
    memcpy(map + 2, "page", 4);
    HOLDS(msync(map, 4096, MS_SYNC) == 0 && munmap(map, 4096) == 0);
    HOLDS(look("f").st_size == 10 && text_is("f", "01page6789"));
    HOLDS(write(fd, "+", 1) == 1 && text_is("f", "01page6789+"));
    HOLDS(fcntl(fd, F_SETFL, 0) == 0 && pwrite(fd, "FREE", 4, 2) == 4 && text_is("f", "01FREE6789+"));
    int other = open("f", O_WRONLY);
    HOLDS(fcntl(other, F_SETFL, O_APPEND) == 0 && write(other, "!", 1) == 1 && text_is("f", "01FREE6789+!"));
}

static void space_is_allocated_and_punched(void)
{
    int fd = open("f", O_RDWR | O_CREAT, 0644);
    if (fallocate(fd, 0, 0, 8192) == -1 && errno == EOPNOTSUPP)
        without("fallocate");
    HOLDS(look("f").st_size == 8192);
    HOLDS(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 65536) == 0 && look("f").st_size == 8192);
    HOLDS(pwrite(fd, "0123456789", 10, 4096) == 10);
    if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 5) == -1 && errno == EOPNOTSUPP)
        without("holes");
    char buffer[10];
    HOLDS(pread(fd, buffer, 10, 4096) == 10 && memcmp(buffer, "\0\0\0\0\0" "56789", 10) == 0);
    FAILS(EINVAL, fallocate(fd, 0, 0, 0));
    FAILS(EBADF, fallocate(open("f", O_RDONLY), 0, 0, 1));
    struct statvfs st;
    HOLDS(statvfs(".", &st) == 0 && st.f_namemax >= 255 && st.f_blocks >= st.f_bfree);
}

static void ranges_are_copied(void)
{
    put("from", "0123456789");
    put("to", "abcdefghij");
    int from = open("from", O_RDONLY), to = open("to", O_RDWR);
    off_t in = 2, out = 5;
    ssize_t done = copy_file_range(from, &in, to, &out, 4, 0);
    if (done == -1 && (errno == EOPNOTSUPP || errno == ENOSYS || errno == EXDEV))
        without("copy_file_range");
    HOLDS(done == 4 && in == 6 && out == 9 && text_is("to", "abcde2345j"));
    FAILS(EBADF, copy_file_range(from, NULL, open("to", O_RDONLY), NULL, 1, 0));
}

static void files_without_a_name(void)
{
    int fd = open(".", O_TMPFILE | O_RDWR, 0640);
    if (fd == -1 && (errno == EOPNOTSUPP || errno == EISDIR))
        without("O_TMPFILE");
    struct stat st;
    HOLDS(fd >= 0 && write(fd, "hidden", 6) == 6 && fstat(fd, &st) == 0 && st.st_nlink == 0);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    HOLDS(linkat(AT_FDCWD, path, AT_FDCWD, "shown", AT_SYMLINK_FOLLOW) == 0 && text_is("shown", "hidden"));
    HOLDS((look("shown").st_mode & 07777) == 0640 && look("shown").st_nlink == 1);
}

static void extended_attributes(void)
{
    char value[16];
    put("f", "");
    if (setxattr("f", "user.a", "one", 3, 0) == -1 && errno == EOPNOTSUPP)
        without("user attributes");
    HOLDS(getxattr("f", "user.a", value, 16) == 3 && memcmp(value, "one", 3) == 0);
    HOLDS(getxattr("f", "user.a", NULL, 0) == 3);
    FAILS(ERANGE, getxattr("f", "user.a", value, 1));
    FAILS(EEXIST, setxattr("f", "user.a", "x", 1, XATTR_CREATE));
    FAILS(ENODATA, setxattr("f", "user.b", "x", 1, XATTR_REPLACE));
    HOLDS(setxattr("f", "user.b", "", 0, 0) == 0 && getxattr("f", "user.b", value, 16) == 0);
    HOLDS(listxattr("f", NULL, 0) >= 14);
    HOLDS(removexattr("f", "user.a") == 0);
    FAILS(ENODATA, getxattr("f", "user.a", value, 16));
    FAILS(ENODATA, removexattr("f", "user.a"));
    HOLDS(link("f", "g") == 0 && getxattr("g", "user.b", value, 16) == 0);
}

static void times_follow_changes(void)
{
    put("f", "x");
    HOLDS(mkdir("d", 0755) == 0);
    struct timespec past[2] = { { 1000, 5 }, { 2000, 7 } };
    HOLDS(utimensat(AT_FDCWD, "f", past, 0) == 0 && utimensat(AT_FDCWD, "d", past, 0) == 0);
    struct stat st = look("f");
    HOLDS(st.st_atim.tv_sec == 1000 && st.st_mtim.tv_sec == 2000 && st.st_mtim.tv_nsec == 7);
    HOLDS(st.st_ctim.tv_sec > 1000000);
    struct timespec one[2] = { { 0, UTIME_OMIT }, { -3, 0 } };
    HOLDS(utimensat(AT_FDCWD, "f", one, 0) == 0);
    HOLDS(look("f").st_atim.tv_sec == 1000 && look("f").st_mtim.tv_sec == -3);
    HOLDS(chmod("f", 0600) == 0 && look("f").st_mtim.tv_sec == -3);
    int fd = open("f", O_WRONLY);
    HOLDS(write(fd, "y", 1) == 1 && close(fd) == 0 && look("f").st_mtim.tv_sec > 1000000);
    put("d/new", "");
    HOLDS(look("d").st_mtim.tv_sec > 1000000);
    HOLDS(symlink("f", "l") == 0 && utimensat(AT_FDCWD, "l", past, AT_SYMLINK_NOFOLLOW) == 0);
    HOLDS(look("l").st_mtim.tv_sec == 2000 && look("f").st_mtim.tv_sec > 1000000);
    struct timespec bad[2] = { { 0, 2000000000 }, { 0, 0 } };
    FAILS(EINVAL, utimensat(AT_FDCWD, "f", bad, 0));
}

const struct rule data_rules[] = {
    { "appending writes go to the end", appending_writes_go_to_the_end, BOTH },
    { "sizes change", sizes_change, BOTH },
    { "large and sparse files", large_and_sparse, BOTH },
    { "vectors and shared offsets", vectors_and_shared_offsets, BOTH },
    { "large transfers keep their bytes", large_transfers_keep_their_bytes, BOTH },
    { "mappings are the file", mappings_are_the_file, BOTH },
    { "mappings do not append", mappings_do_not_append, BOTH },
    { "space is allocated and punched", space_is_allocated_and_punched, BOTH },
    { "ranges are copied", ranges_are_copied, BOTH },
    { "files without a name", files_without_a_name, BOTH },
    { "extended attributes", extended_attributes, BOTH },
    { "times follow changes", times_follow_changes, BOTH },
    { NULL, NULL, 0 },
};
