/* Locks, and files through which processes talk. */
#include "rules.h"

#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>

static int ready[2];

static void wait_for_child(void)
{
    char byte;
    HOLDS(read(ready[0], &byte, 1) == 1);
}

static void tell_parent(void) { HOLDS(write(ready[1], "!", 1) == 1); }

static int lock(int fd, int command, int type, off_t from, off_t len)
{
    struct flock range = { .l_type = type, .l_whence = SEEK_SET, .l_start = from, .l_len = len };
    return fcntl(fd, command, &range);
}

static int hold_record(void)
{
    int fd = open("f", O_RDWR);
    HOLDS(lock(fd, F_SETLK, F_WRLCK, 10, 10) == 0);
    tell_parent();
    usleep(300000);
    return 0;
}

static void record_locks_exclude_processes(void)
{
    put("f", "");
    HOLDS(pipe(ready) == 0);
    int fd = open("f", O_RDWR);
    HOLDS(lock(fd, F_SETLK, F_RDLCK, 0, 5) == 0);
    pid_t child = start(hold_record);
    wait_for_child();
    HOLDS(lock(fd, F_SETLK, F_RDLCK, 15, 1) == -1 && (errno == EAGAIN || errno == EACCES));
    HOLDS(lock(fd, F_SETLK, F_WRLCK, 20, 1) == 0);
    struct flock range = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0 };
    HOLDS(fcntl(fd, F_GETLK, &range) == 0 && range.l_type == F_WRLCK && range.l_pid == child && range.l_start == 10);
    /* Waits until the child ends; it does not hold up others. */
    HOLDS(lock(fd, F_SETLKW, F_WRLCK, 15, 1) == 0);
    HOLDS(end_of(child) == 0);
}

static int hold_whole(void)
{
    int fd = open("f", O_RDWR);
    HOLDS(flock(fd, LOCK_EX) == 0);
    tell_parent();
    usleep(300000);
    return 0;
}

static void whole_file_locks_exclude_descriptors(void)
{
    put("f", "");
    HOLDS(pipe(ready) == 0);
    int one = open("f", O_RDONLY), two = open("f", O_RDONLY);
    HOLDS(flock(one, LOCK_SH) == 0 && flock(two, LOCK_SH) == 0);
    FAILS(EAGAIN, flock(two, LOCK_EX | LOCK_NB));
    HOLDS(flock(one, LOCK_UN) == 0 && flock(two, LOCK_EX | LOCK_NB) == 0 && close(two) == 0);
    pid_t child = start(hold_whole);
    wait_for_child();
    FAILS(EAGAIN, flock(one, LOCK_SH | LOCK_NB));
    put("g", "others go on");
    HOLDS(flock(one, LOCK_EX) == 0 && end_of(child) == 0);
}

static void open_file_locks_belong_to_the_open_file(void)
{
    put("f", "");
    int one = open("f", O_RDWR), two = open("f", O_RDWR);
    HOLDS(lock(one, F_OFD_SETLK, F_WRLCK, 0, 10) == 0);
    HOLDS(lock(two, F_OFD_SETLK, F_WRLCK, 5, 10) == -1 && errno == EAGAIN);
    HOLDS(close(one) == 0 && lock(two, F_OFD_SETLK, F_WRLCK, 5, 10) == 0);
}

static int send_through_fifo(void)
{
    usleep(200000);
    int fd = open("fifo", O_WRONLY);
    return write(fd, "through", 7) == 7 ? 0 : 1;
}

static void fifos_join_processes(void)
{
    char buffer[16];
    HOLDS(mkfifo("fifo", 0644) == 0 && S_ISFIFO(look("fifo").st_mode));
    FAILS(ENXIO, open("fifo", O_WRONLY | O_NONBLOCK));
    pid_t child = start(send_through_fifo);
    /* Waits for the child, which uses the same file system meanwhile. */
    int fd = open("fifo", O_RDONLY);
    HOLDS(fd >= 0 && read(fd, buffer, 16) == 7 && read(fd, buffer, 16) == 0 && end_of(child) == 0);
}

static void sockets_have_names(void)
{
    struct sockaddr_un name = { .sun_family = AF_UNIX, .sun_path = "socket" };
    int listener = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
    HOLDS(bind(listener, (struct sockaddr *)&name, sizeof name) == 0 && S_ISSOCK(look("socket").st_mode));
    HOLDS(listen(listener, 1) == 0 && connect(client, (struct sockaddr *)&name, sizeof name) == 0);
    FAILS(EADDRINUSE, bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&name, sizeof name));
    FAILS(ENXIO, open("socket", O_RDONLY));
    HOLDS(unlink("socket") == 0);
}

const struct rule lock_rules[] = {
    { "record locks exclude processes", record_locks_exclude_processes, BOTH },
    { "whole file locks exclude descriptors", whole_file_locks_exclude_descriptors, BOTH },
    { "open file locks belong to the open file", open_file_locks_belong_to_the_open_file, BOTH },
    { "fifos join processes", fifos_join_processes, BOTH },
    { "sockets have names", sockets_have_names, BOTH },
    { NULL, NULL, 0 },
};
