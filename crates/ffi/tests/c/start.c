/* Starts that fail, and leave nothing behind. Needs a kernel bundle, and KVM for some. Argument: an empty directory. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <termios.h>

#include "check.h"

static const char *dir;

static int entries(const char *path)
{
	DIR *open_dir = opendir(path);
	int count = 0;

	while (readdir(open_dir) != NULL)
		count++;
	closedir(open_dir);
	return count;
}

/* A context that would boot. */
static int32_t good(void)
{
	int32_t ctx = krun_create_ctx();

	CHECK(ctx >= 0, 1);
	CHECK(krun_set_root(ctx, dir), 0);
	return ctx;
}

#define START_FAILS(ctx, error, part)                                                                                \
	do {                                                                                                         \
		FAILS(krun_start_enter(ctx), error, part);                                                           \
		FAILS(krun_free_ctx(ctx), ENOENT, "context");                                                        \
	} while (0)

static void machine(void)
{
	int32_t ctx = good();

	CHECK(krun_set_vm_config(ctx, 255, 128), 0);
	START_FAILS(ctx, EINVAL, "vcpus");
	ctx = good();
	CHECK(krun_set_vm_config(ctx, 1, 1), 0);
	START_FAILS(ctx, EINVAL, "memory_mib");
	ctx = good();
	CHECK(krun_set_vm_config(ctx, 1, UINT32_MAX), 0);
	START_FAILS(ctx, EINVAL, "memory_mib");
}

static void files(void)
{
	int32_t ctx = krun_create_ctx();

	CHECK(krun_set_root(ctx, "/nowhere/at/all"), 0);
	START_FAILS(ctx, ENOENT, "/nowhere/at/all");
	ctx = good();
	CHECK(krun_add_virtiofs(ctx, "x", "/dev/null"), 0);
	START_FAILS(ctx, ENOTDIR, "/dev/null");
	ctx = good();
	for (int i = 0; i < 40; i++)
		CHECK(krun_add_virtiofs(ctx, "x", dir), 0);
	START_FAILS(ctx, EINVAL, "devices");
	ctx = good();
	CHECK(krun_set_control_socket(ctx, dir), 0);
	START_FAILS(ctx, EADDRINUSE, dir);
	ctx = good();
	CHECK(krun_set_control_socket(ctx, "/nowhere/at/all"), 0);
	START_FAILS(ctx, ENOENT, "/nowhere/at/all");
}

static void consoles(void)
{
	int32_t ctx = good();
	char path[4096];

	snprintf(path, sizeof(path), "%s/no/such/file", dir);
	CHECK(krun_set_console_output(ctx, path), 0);
	START_FAILS(ctx, EINVAL, "console file");
	ctx = good();
	CHECK(krun_set_kernel_console(ctx, "hvc0 init=/x"), 0);
	START_FAILS(ctx, EINVAL, "console_id");
	ctx = good();
	CHECK(krun_add_virtio_console_multiport(ctx), 0);
	START_FAILS(ctx, EINVAL, "no ports");
	ctx = good();
	CHECK(krun_add_virtio_console_default(ctx, -1, 9999, -1), 0);
	START_FAILS(ctx, EINVAL, "output_fd: descriptor 9999");
	ctx = good();
	CHECK(krun_add_serial_console_default(ctx, 9999, -1), 0);
	START_FAILS(ctx, EINVAL, "input_fd: descriptor 9999");
	ctx = good();
	CHECK(krun_add_virtio_console_multiport(ctx), 0);
	CHECK(krun_add_console_port_inout(ctx, 0, "x", 9999, -1), 0);
	START_FAILS(ctx, EINVAL, "input_fd: descriptor 9999");
}

/* A terminal whose mode is restored when the start fails after it was set. */
static void terminal(void)
{
	int32_t ctx = good();
	int pty = posix_openpt(O_RDWR | O_NOCTTY), tty;
	struct termios before, after;

	CHECK(pty >= 0 && grantpt(pty) == 0 && unlockpt(pty) == 0, 1);
	tty = open(ptsname(pty), O_RDWR | O_NOCTTY);
	CHECK(tcgetattr(tty, &before), 0);
	CHECK(krun_add_virtio_console_default(ctx, tty, tty, tty), 0);
	CHECK(krun_add_virtio_console_multiport(ctx), 1);
	CHECK(krun_add_console_port_tty(ctx, 1, "x", tty), 0);
	CHECK(krun_set_vm_config(ctx, 254, 128), 0);
	for (int i = 0; i < 40; i++)
		CHECK(krun_add_virtiofs(ctx, "x", dir), 0);
	START_FAILS(ctx, EINVAL, "devices");
	CHECK(tcgetattr(tty, &after), 0);
	CHECK(before.c_lflag == after.c_lflag && before.c_iflag == after.c_iflag && before.c_oflag == after.c_oflag, 1);
	close(tty);
	close(pty);
}

static void user(void)
{
	int32_t ctx = good();

	CHECK(krun_setgid(ctx, (gid_t)-1), 0);
	START_FAILS(ctx, EINVAL, "setgid");
	ctx = good();
	CHECK(krun_setuid(ctx, (uid_t)-1), 0);
	START_FAILS(ctx, EINVAL, "setuid");
}

static void signals(void)
{
	struct sigaction action;
	sigset_t mask;

	CHECK(sigaction(SIGINT, NULL, &action), 0);
	CHECK(action.sa_handler == SIG_DFL, 1);
	CHECK(sigaction(SIGWINCH, NULL, &action), 0);
	CHECK(action.sa_handler == SIG_DFL, 1);
	CHECK(sigprocmask(SIG_BLOCK, NULL, &mask), 0);
	CHECK(sigismember(&mask, SIGPIPE), 0);
}

static void all(void)
{
	machine();
	files();
	consoles();
	terminal();
	user();
}

int main(int argc, char **argv)
{
	int descriptors, threads;

	if (argc != 2)
		return 2;
	dir = argv[1];
	/* What a process makes once and keeps. */
	all();
	descriptors = entries("/proc/self/fd");
	threads = entries("/proc/self/task");
	all();
	signals();
	CHECK(entries("/proc/self/fd"), descriptors);
	CHECK(entries("/proc/self/task"), threads);
	return result();
}
