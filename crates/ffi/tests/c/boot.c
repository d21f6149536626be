/* boot [OPTION...] ROOT PROGRAM [ARGUMENT...]: runs a program in a guest. The environment of this process is the
 * guest's. Every option is a call, made in the order given; those of the command line behind it. */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "libkrun.h"

static int32_t ctx;

static void check(const char *call, int32_t result)
{
	if (result >= 0)
		return;
	fprintf(stderr, "%s: %s: %s\n", call, strerror(-result), krun_get_last_error());
	exit(100);
}

#define CALL(call) check(#call, call)

/* Asks the guest to stop when this process gets a byte from the descriptor in the argument. */
static int stop_on, stop_event;

static void *stop(void *unused)
{
	uint64_t one = 1;
	char byte;

	(void)unused;
	if (read(stop_on, &byte, 1) != 1 || write(stop_event, &one, sizeof(one)) != sizeof(one))
		abort();
	return NULL;
}

/* Says what the guest was denied first, and then allows it. */
static void *allow(void *policy)
{
	char log[4096];
	uint64_t next = 0;
	int32_t len = 0;

	do {
		struct timespec pause = { 0, 50000000 };

		nanosleep(&pause, NULL);
		len = krun_read_egress_log(ctx, &next, log, sizeof(log) - 1);
	} while (len <= 0);
	log[len] = 0;
	fprintf(stderr, "host: %s", log);
	CALL(krun_update_egress_policy(ctx, policy));
	return NULL;
}

/* For the kernel of the next -k. */
static const char *initramfs, *words;

static void option(int key, char *value)
{
	static const uint8_t data[] = "from memory\n";
	int first = 0, second = 0, third = 0;
	pthread_t thread;

	switch (key) {
	case 'd':
		CALL(krun_set_workdir(ctx, value));
		break;
	case 'r':
		CALL(krun_set_rlimits(ctx, (const char *const[]){ value, NULL }));
		break;
	case 'o':
		CALL(krun_set_console_output(ctx, value));
		break;
	case 'n':
		CALL(krun_disable_implicit_console(ctx));
		break;
	case 'c':
		sscanf(value, "%d,%d,%d", &first, &second, &third);
		CALL(krun_add_virtio_console_default(ctx, first, second, third));
		break;
	case 'S':
		sscanf(value, "%d,%d", &first, &second);
		CALL(krun_add_serial_console_default(ctx, first, second));
		break;
	case 'm':
		CALL(krun_add_virtio_console_multiport(ctx));
		break;
	case 'p':
		sscanf(strchr(value, '=') + 1, "%d,%d,%d", &first, &second, &third);
		*strchr(value, '=') = 0;
		CALL(krun_add_console_port_inout(ctx, first, value, second, third));
		break;
	case 't':
		sscanf(strchr(value, '=') + 1, "%d,%d", &first, &second);
		*strchr(value, '=') = 0;
		CALL(krun_add_console_port_tty(ctx, first, value, second));
		break;
	case 's':
		CALL(krun_add_virtiofs3(ctx, "share", value, 0, true));
		break;
	case 'f':
		CALL(krun_add_virtiofs(ctx, "memory", NULL));
		CALL(krun_fs_add_overlay_dir(ctx, "memory", "dir", 0755));
		CALL(krun_fs_add_overlay_file(ctx, "memory", "dir/file", data, sizeof(data) - 1, 0444, false));
		CALL(krun_fs_add_overlay_file(ctx, "memory", "once", data, sizeof(data) - 1, 0444, true));
		break;
	case 'u':
		CALL(krun_setgid(ctx, (gid_t)atoi(value)));
		CALL(krun_setuid(ctx, (uid_t)atoi(value)));
		break;
	case 'i':
		initramfs = value;
		break;
	case 'w':
		words = value;
		break;
	case 'k':
		CALL(krun_set_kernel(ctx, value, KRUN_KERNEL_FORMAT_ELF, initramfs, words));
		break;
	case 'K':
		CALL(krun_set_kernel_console(ctx, value));
		break;
	case 'x':
		stop_on = atoi(value);
		CALL(stop_event = krun_get_shutdown_eventfd(ctx));
		if (pthread_create(&thread, NULL, stop, NULL) != 0)
			abort();
		break;
	case 'e':
		CALL(krun_set_egress_policy(ctx, value));
		break;
	case 'E':
		if (pthread_create(&thread, NULL, allow, value) != 0)
			abort();
		break;
	default:
		exit(99);
	}
}

int main(int argc, char **argv)
{
	int key;

	CALL(krun_set_log_level(KRUN_LOG_LEVEL_WARN));
	CALL(ctx = krun_create_ctx());
	CALL(krun_set_vm_config(ctx, 1, 256));
	while ((key = getopt(argc, argv, "+d:r:o:nc:S:mp:t:s:fu:i:w:k:K:x:e:E:")) >= 0)
		option(key, optarg);
	if (argc - optind < 2)
		return 99;
	CALL(krun_set_root(ctx, argv[optind]));
	CALL(krun_set_exec(ctx, argv[optind + 1], (const char *const *)(argv + optind + 2), NULL));
	CALL(krun_start_enter(ctx));
	return 98;
}
