/* Sockets, measured from the side that connects.
 *
 *     sockets serve PORT   serves the other on 127.0.0.1, for ever
 *     sockets run PORT     prints lines `sample CASE NUMBER us`
 *
 * The first byte of a connection says what it is for.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BYTES = 64 << 20, SHORT = 100, TRIPS = 1000 };

static char buffer[64 << 10];

static void need(int good, const char *what)
{
    if (!good) {
        perror(what);
        exit(1);
    }
}

static struct sockaddr_in address(const char *port)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)) };

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return at;
}

static int dial(const char *port, char purpose)
{
    struct sockaddr_in to = address(port);
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;

    need(fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0, "connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    need(write(fd, &purpose, 1) == 1, "write");
    return fd;
}

static void send_all(int fd)
{
    for (long left = BYTES; left > 0;) {
        ssize_t n = write(fd, buffer, left < (long)sizeof(buffer) ? (size_t)left : sizeof(buffer));
        need(n > 0, "write");
        left -= n;
    }
}

static long receive_all(int fd)
{
    long total = 0;
    ssize_t n;

    while ((n = read(fd, buffer, sizeof(buffer))) > 0)
        total += n;
    need(n == 0, "read");
    return total;
}

static void serve_one(int fd)
{
    char purpose, byte;
    int one = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (read(fd, &purpose, 1) != 1)
        return;
    switch (purpose) {
    case 'u':
        need(receive_all(fd) == BYTES, "all bytes");
        need(write(fd, "k", 1) == 1, "write");
        break;
    case 'd':
        send_all(fd);
        break;
    case 'r':
        while (read(fd, &byte, 1) == 1)
            need(write(fd, &byte, 1) == 1, "write");
        break;
    default:
        need(write(fd, "k", 1) == 1, "write");
    }
}

static void serve(const char *port)
{
    struct sockaddr_in at = address(port);
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    need(bind(fd, (struct sockaddr *)&at, sizeof(at)) == 0 && listen(fd, 128) == 0, "listen");
    for (;;) {
        int peer = accept(fd, NULL, NULL);
        need(peer >= 0, "accept");
        serve_one(peer);
        close(peer);
    }
}

static uint64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static uint64_t report(const char *name, uint64_t before)
{
    printf("sample %s %llu us\n", name, (unsigned long long)(now() - before));
    fflush(stdout);
    return now();
}

static int run(const char *port)
{
    char byte = 0;
    uint64_t before = now();
    int fd = dial(port, 'u');

    send_all(fd);
    need(shutdown(fd, SHUT_WR) == 0 && read(fd, &byte, 1) == 1, "answer");
    close(fd);
    before = report("guest-to-host", before);

    fd = dial(port, 'd');
    need(receive_all(fd) == BYTES, "all bytes");
    close(fd);
    before = report("host-to-guest", before);

    for (int i = 0; i < SHORT; i++) {
        fd = dial(port, 's');
        need(read(fd, &byte, 1) == 1, "read");
        close(fd);
    }
    before = report("connections", before);

    fd = dial(port, 'r');
    for (int i = 0; i < TRIPS; i++)
        need(write(fd, &byte, 1) == 1 && read(fd, &byte, 1) == 1, "round trip");
    close(fd);
    report("round-trips", before);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "serve") == 0)
        serve(argv[2]);
    if (argc == 3 && strcmp(argv[1], "run") == 0)
        return run(argv[2]);
    fprintf(stderr, "usage: sockets serve|run PORT\n");
    return 2;
}
