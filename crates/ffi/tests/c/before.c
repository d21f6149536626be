/* What configuration does to a process: nothing. No thread, no descriptor but the one that is asked for, no other mask,
 * signal or name. Needs a kernel bundle. */
#define _GNU_SOURCE
#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "check.h"

static int entries(const char *path)
{
	DIR *open_dir = opendir(path);
	int count = 0;

	while (readdir(open_dir) != NULL)
		count++;
	closedir(open_dir);
	return count;
}

static int has_kvm_open(void)
{
	char path[64], target[256];
	ssize_t len;

	for (int fd = 0; fd < 256; fd++) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		len = readlink(path, target, sizeof(target) - 1);
		if (len > 0 && memmem(target, (size_t)len, "kvm", 3) != NULL)
			return 1;
	}
	return 0;
}

static int handlers(void)
{
	struct sigaction action;
	int count = 0;

	for (int number = 1; number < 65; number++)
		if (sigaction(number, NULL, &action) == 0 && action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN)
			count++;
	return count;
}

static int32_t configured(void)
{
	int32_t ctx = krun_create_ctx();
	const uint8_t *init;
	size_t len;

	CHECK(ctx >= 0, 1);
	CHECK(krun_set_vm_config(ctx, 2, 256), 0);
	CHECK(krun_get_max_vcpus() > 0, 1);
	CHECK(krun_set_root(ctx, "/"), 0);
	CHECK(krun_add_virtiofs3(ctx, "share", "/", 1 << 20, true), 0);
	CHECK(krun_get_default_init(&init, &len), 0);
	CHECK(krun_add_virtio_console_default(ctx, 0, 1, 2), 0);
	CHECK(krun_add_serial_console_default(ctx, 0, 1), 0);
	CHECK(krun_add_vsock_port2(ctx, 1, "/no/such/directory/socket", true), 0);
	CHECK(krun_set_port_map(ctx, LIST("80:80")), 0);
	CHECK(krun_set_control_socket(ctx, "/no/such/directory/socket"), 0);
	CHECK(krun_set_console_output(ctx, "/no/such/directory/file"), 0);
	CHECK(krun_set_kernel(ctx, "/proc/self/exe", KRUN_KERNEL_FORMAT_RAW, NULL, NULL), 0);
	CHECK(krun_set_exec(ctx, "/bin/true", NULL, NULL), 0);
	CHECK(krun_setuid(ctx, 1), 0);
	CHECK(krun_setgid(ctx, 1), 0);
	return ctx;
}

int main(void)
{
	char before[16], after[16];
	int32_t ctx;
	int descriptors, status;
	sigset_t mask, none;

	CHECK(umask(027), 022);
	CHECK(prctl(PR_GET_NAME, before), 0);
	descriptors = entries("/proc/self/fd");
	CHECK(handlers(), 0);
	CHECK(krun_set_log_level(KRUN_LOG_LEVEL_OFF), 0);

	ctx = configured();
	CHECK(entries("/proc/self/task"), 3);
	CHECK(entries("/proc/self/fd"), descriptors);
	CHECK(has_kvm_open(), 0);
	CHECK(handlers(), 0);
	CHECK(umask(027), 027);
	CHECK(sigemptyset(&none), 0);
	CHECK(sigprocmask(SIG_BLOCK, NULL, &mask), 0);
	CHECK(memcmp(&mask, &none, sizeof(mask) / 16), 0);
	CHECK(prctl(PR_GET_NAME, after), 0);
	CHECK(strcmp(before, after), 0);
	CHECK(getuid() == geteuid() && getuid() != 1, 1);

	CHECK(krun_get_shutdown_eventfd(ctx) > 2, 1);
	CHECK(entries("/proc/self/fd"), descriptors + 1);
	CHECK(krun_free_ctx(ctx), 0);
	CHECK(entries("/proc/self/fd"), descriptors);

	/* A child of a process with a context has it too. */
	ctx = configured();
	if (fork() == 0) {
		CHECK(krun_set_workdir(ctx, "/"), 0);
		CHECK(krun_create_ctx(), ctx + 1);
		CHECK(krun_free_ctx(ctx), 0);
		fflush(stdout);
		_exit(result());
	}
	CHECK(wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0, 1);
	CHECK(krun_free_ctx(ctx), 0);

	/* The name is that of a machine also if there is none. */
	FAILS(krun_start_enter(ctx), ENOENT, "context");
	CHECK(prctl(PR_GET_NAME, after), 0);
	CHECK(strcmp(after, "libkrun VM"), 0);
	CHECK(setenv("HOSTNAME", "a-long-host-name", 1), 0);
	FAILS(krun_start_enter(ctx), ENOENT, "context");
	CHECK(prctl(PR_GET_NAME, after), 0);
	CHECK(strcmp(after, "VM:a-long-host-"), 0);
	return result();
}
