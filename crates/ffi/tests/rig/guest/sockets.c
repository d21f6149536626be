/* What a guest does with its sockets, one check after another. Prints "NAME ok" for each; the first that fails says why
 * and ends the program. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct sockaddr_vm {
	unsigned short family, reserved;
	unsigned int port, cid;
	unsigned char zero[4];
};

static const char *check = "?";

static void fail(const char *what)
{
	printf("%s: %s: %s\n", check, what, strerror(errno));
	exit(1);
}

static void need(int good, const char *what)
{
	if (!good)
		fail(what);
}

/* A socket that is connected to ADDRESS (v4, v6, a path) and PORT, or -1. */
static int dial(const char *address, const char *port)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(atoi(port)) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(atoi(port)) };
	struct sockaddr_un path = { .sun_family = AF_UNIX };
	struct sockaddr *to;
	socklen_t len;
	int fd, result;

	if (address[0] == '/') {
		strncpy(path.sun_path, address, sizeof(path.sun_path) - 1);
		to = (struct sockaddr *)&path, len = sizeof(path.sun_family) + strlen(path.sun_path) + 1;
	} else if (strchr(address, ':')) {
		inet_pton(AF_INET6, address, &v6.sin6_addr);
		to = (struct sockaddr *)&v6, len = sizeof(v6);
	} else {
		inet_pton(AF_INET, address, &v4.sin_addr);
		to = (struct sockaddr *)&v4, len = sizeof(v4);
	}
	fd = socket(to->sa_family, SOCK_STREAM, 0);
	need(fd >= 0, "socket");
	result = connect(fd, to, len);
	if (result < 0) {
		result = errno;
		close(fd);
		errno = result;
		return -1;
	}
	return fd;
}

static void put(int fd, const void *bytes, size_t count)
{
	for (const char *at = bytes; count > 0;) {
		ssize_t n = send(fd, at, count, MSG_NOSIGNAL);

		need(n > 0, "send");
		at += n, count -= n;
	}
}

static void get(int fd, void *bytes, size_t count)
{
	for (char *at = bytes; count > 0;) {
		ssize_t n = read(fd, at, count);

		if (n == 0)
			errno = 0;
		need(n > 0, "read");
		at += n, count -= n;
	}
}

static uint64_t hash(uint64_t sum, const uint64_t *words, size_t count)
{
	while (count-- > 0)
		sum = (sum ^ *words++) * 0x9e3779b97f4a7c15 + 1;
	return sum;
}

static uint64_t buffer[8192];

/* Sends MIB and its hash; the other side says whether it got that. */
static void up(const char *address, const char *port, int mib)
{
	uint64_t x = 1, sum = 0, theirs;
	int fd = dial(address, port);

	need(fd >= 0, "connect");
	for (int i = 0; i < mib * 16; i++) {
		for (size_t w = 0; w < 8192; w++)
			buffer[w] = x = x * 6364136223846793005 + 1442695040888963407;
		sum = hash(sum, buffer, 8192);
		put(fd, buffer, sizeof(buffer));
	}
	need(shutdown(fd, SHUT_WR) == 0, "shutdown");
	get(fd, &theirs, sizeof(theirs));
	errno = 0;
	need(theirs == sum, "another sum");
	close(fd);
}

/* Reads to the end and sends the hash. */
static void down(const char *address, const char *port)
{
	uint64_t sum = 0;
	size_t have = 0;
	int fd = dial(address, port);

	need(fd >= 0, "connect");
	for (;;) {
		ssize_t n = read(fd, (char *)buffer + have, sizeof(buffer) - have);

		need(n >= 0, "read");
		have += n;
		if (have == sizeof(buffer) || n == 0) {
			sum = hash(sum, buffer, have / 8);
			have = 0;
		}
		if (n == 0)
			break;
	}
	put(fd, &sum, sizeof(sum));
	close(fd);
}

/* COUNT connections at once, each of which gets back what it sent. */
static void many(const char *address, const char *port, int count)
{
	struct rlimit limit = { count + 64, count + 64 };
	int *fds = calloc(count, sizeof(int));

	need(setrlimit(RLIMIT_NOFILE, &limit) == 0, "setrlimit");
	for (int i = 0; i < count; i++) {
		fds[i] = dial(address, port);
		need(fds[i] >= 0, "connect");
	}
	for (int i = 0; i < count; i++)
		put(fds[i], &i, sizeof(i));
	for (int i = 0; i < count; i++) {
		int got = -1;

		get(fds[i], &got, sizeof(got));
		errno = 0;
		need(got == i, "somebody else's answer");
		close(fds[i]);
	}
}

/* COUNT connections one after another; each gets its number and the end. */
static void brief(const char *address, const char *port, int count)
{
	for (int i = 0; i < count; i++) {
		int fd = dial(address, port), got = -1;

		need(fd >= 0, "connect");
		get(fd, &got, sizeof(got));
		errno = 0;
		need(got == i, "another number");
		need(read(fd, &got, 1) == 0, "no end");
		close(fd);
	}
}

static void fails(const char *address, const char *port, int error)
{
	need(dial(address, port) < 0, "it connects");
	need(errno == error, "another error");
}

static void unreachable(const char *address, const char *port)
{
	need(dial(address, port) < 0, "it connects");
}

/* Datagrams to two ports in turn, each of which answers with what it got. */
static void udp(const char *address, const char *ports)
{
	struct sockaddr_in to[2];
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	struct pollfd ready = { fd, POLLIN, 0 };

	need(fd >= 0, "socket");
	for (int i = 0; i < 2; i++) {
		to[i] = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(atoi(ports)) };
		inet_pton(AF_INET, address, &to[i].sin_addr);
		ports = strchr(ports, ',') ? strchr(ports, ',') + 1 : ports;
	}
	for (int i = 0; i < 50; i++) {
		char want[32], got[64];
		int n;

		snprintf(want, sizeof(want), "datagram %d", i);
		n = sendto(fd, want, strlen(want), 0, (struct sockaddr *)&to[i % 2], sizeof(to[0]));
		need(n == (int)strlen(want), "sendto");
		need(poll(&ready, 1, 20000) == 1, "no answer");
		n = recv(fd, got, sizeof(got), 0);
		errno = 0;
		need(n == (int)strlen(want) + 1 && got[0] == '0' + i % 2, "another answer");
		need(memcmp(got + 1, want, n - 1) == 0, "another datagram");
	}
	close(fd);
}

/* A stream to a vsock port of the host: what it says comes back. */
static void vsock(unsigned int port)
{
	struct sockaddr_vm to = { .family = AF_VSOCK, .port = port, .cid = 2 };
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
	char got[5];

	need(fd >= 0, "socket");
	need(connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0, "connect");
	put(fd, "hello", 5);
	need(shutdown(fd, SHUT_WR) == 0, "shutdown");
	get(fd, got, 5);
	errno = 0;
	need(memcmp(got, "hello", 5) == 0 && read(fd, got, 1) == 0, "no echo");
	close(fd);
}

static void no_vsock(unsigned int port)
{
	struct sockaddr_vm to = { .family = AF_VSOCK, .port = port, .cid = 2 };
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);

	need(fd >= 0, "socket");
	need(connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0, "it connects");
	need(errno == ECONNRESET, "another error");
	close(fd);
}

/* Serves one connection of the host on a vsock port. */
static void vsock_server(unsigned int port)
{
	struct sockaddr_vm at = { .family = AF_VSOCK, .port = port, .cid = -1U };
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0), peer;
	char bytes[256];
	ssize_t n;

	need(fd >= 0, "socket");
	need(bind(fd, (struct sockaddr *)&at, sizeof(at)) == 0, "bind");
	need(listen(fd, 8) == 0, "listen");
	peer = accept(fd, NULL, NULL);
	need(peer >= 0, "accept");
	while ((n = read(peer, bytes, sizeof(bytes))) > 0)
		put(peer, bytes, n);
	close(peer);
	close(fd);
}

/* Listens and gives each of COUNT clients this name and their own address. */
static void serve(const char *port, const char *name, int count)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(atoi(port)) }, from;
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	need(fd >= 0, "socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	need(bind(fd, (struct sockaddr *)&at, sizeof(at)) == 0, "bind");
	need(listen(fd, 16) == 0, "listen");
	printf("%s listens\n", name);
	while (count-- > 0) {
		socklen_t len = sizeof(from);
		int peer = accept(fd, (struct sockaddr *)&from, &len);

		need(peer >= 0, "accept");
		need(len == sizeof(from) && from.sin_addr.s_addr == htonl(INADDR_LOOPBACK), "another peer");
		put(peer, name, strlen(name));
		close(peer);
	}
	close(fd);
}

/* A connection that is open until the host cuts it, and then cannot be made again. */
static void cut(const char *address, const char *port)
{
	int fd = dial(address, port);
	char byte;

	need(fd >= 0, "connect");
	put(fd, "x", 1);
	get(fd, &byte, 1);
	printf("open\n");
	need(read(fd, &byte, 1) == 0, "no end");
	errno = 0;
	need(send(fd, "y", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE, "it can still send");
	close(fd);
	fails(address, port, ECONNREFUSED);
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (int i = 1; i < argc;) {
		const char *a = i + 1 < argc ? argv[i + 1] : "", *b = i + 2 < argc ? argv[i + 2] : "";
		int n = i + 3 < argc ? atoi(argv[i + 3]) : 0;

		check = argv[i];
		if (!strcmp(check, "up"))
			up(a, b, n), i += 4;
		else if (!strcmp(check, "down"))
			down(a, b), i += 3;
		else if (!strcmp(check, "many"))
			many(a, b, n), i += 4;
		else if (!strcmp(check, "brief"))
			brief(a, b, n), i += 4;
		else if (!strcmp(check, "fails"))
			fails(a, b, n), i += 4;
		else if (!strcmp(check, "unreachable"))
			unreachable(a, b), i += 3;
		else if (!strcmp(check, "udp"))
			udp(a, b), i += 3;
		else if (!strcmp(check, "vsock"))
			vsock(atoi(a)), i += 2;
		else if (!strcmp(check, "no-vsock"))
			no_vsock(atoi(a)), i += 2;
		else if (!strcmp(check, "vsock-server"))
			vsock_server(atoi(a)), i += 2;
		else if (!strcmp(check, "serve"))
			serve(a, b, n), i += 4;
		else if (!strcmp(check, "cut"))
			cut(a, b), i += 3;
		else
			fail("no such check");
		printf("%s ok\n", check);
	}
	return 0;
}
