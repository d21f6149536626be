/* run [WORD...] DIRECTORY: starts a machine on a directory.
 *
 * stdin, stdout, stderr: with that stream closed. report, accept: with krun_set_report_guest_failure(). no-init: without
 * our init. elf, gz: with a kernel in a file. lines: with the standard streams as a serial line in place of a console.
 * out: with the standard output as a serial line in place of a console. event: stopped by the shutdown descriptor when a
 * byte comes from the standard input. ctrl-alt-del: likewise, by that.
 * line: with the standard output as a serial line. file: with a console file. umask: with one of 027. nobody: as user and group 65534, with a console file. exit: SIGUSR1 is handled by exit(3).
 * log: with a log. control: with a control socket of that name. fork: in a child of the process that made the context. user: after a change of the user. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "check.h"

static int32_t ctx;
static int event = -1;

static void *stop(void *unused)
{
	uint64_t one = 1;
	char byte;

	(void)unused;
	CHECK(read(0, &byte, 1), 1);
	if (event >= 0)
		CHECK(write(event, &one, sizeof(one)), sizeof(one));
	else
		CHECK(krun_send_ctrl_alt_del(ctx), 0);
	fflush(stdout);
	return NULL;
}

static void exit_now(int unused)
{
	(void)unused;
	exit(3);
}

int main(int argc, char **argv)
{
	pthread_t thread;
	int in_child = 0, status;

	ctx = krun_create_ctx();
	for (int i = 1; i < argc - 1; i++) {
		if (strcmp(argv[i], "report") == 0)
			CHECK(krun_set_report_guest_failure(ctx, true), 0);
		if (strcmp(argv[i], "accept") == 0)
			CHECK(krun_set_report_guest_failure(ctx, false), 0);
		if (strcmp(argv[i], "no-init") == 0)
			CHECK(krun_disable_implicit_init(ctx), 0);
		if (strcmp(argv[i], "elf") == 0)
			CHECK(krun_set_kernel(ctx, "kernel", KRUN_KERNEL_FORMAT_ELF, "run", NULL), 0);
		if (strcmp(argv[i], "gz") == 0)
			CHECK(krun_set_kernel(ctx, "kernel.gz", KRUN_KERNEL_FORMAT_IMAGE_GZ, NULL, "quiet"), 0);
		if (strcmp(argv[i], "lines") == 0) {
			CHECK(krun_disable_implicit_console(ctx), 0);
			/* More than a machine has. */
			for (int line = 0; line < 5; line++)
				CHECK(krun_add_serial_console_default(ctx, line == 0 ? 0 : -1, line == 0 ? 1 : -1), 0);
		}
		if (strcmp(argv[i], "out") == 0) {
			CHECK(krun_disable_implicit_console(ctx), 0);
			CHECK(krun_add_serial_console_default(ctx, -1, 1), 0);
		}
		if (strcmp(argv[i], "event") == 0)
			CHECK((event = krun_get_shutdown_eventfd(ctx)) > 2, 1);
		if (strcmp(argv[i], "event") == 0 || strcmp(argv[i], "ctrl-alt-del") == 0)
			CHECK(pthread_create(&thread, NULL, stop, NULL), 0);
		if (strcmp(argv[i], "line") == 0)
			CHECK(krun_add_serial_console_default(ctx, -1, 1), 0);
		if (strcmp(argv[i], "file") == 0)
			CHECK(krun_set_console_output(ctx, "console"), 0);
		if (strcmp(argv[i], "umask") == 0)
			umask(027);
		if (strcmp(argv[i], "nobody") == 0) {
			CHECK(krun_setuid(ctx, 65534), 0);
			CHECK(krun_setgid(ctx, 65534), 0);
			CHECK(krun_set_console_output(ctx, "out/console"), 0);
		}
		if (strcmp(argv[i], "exit") == 0)
			signal(SIGUSR1, exit_now);
		if (strcmp(argv[i], "log") == 0)
			CHECK(krun_set_log_level(KRUN_LOG_LEVEL_INFO), 0);
		if (strcmp(argv[i], "control") == 0)
			CHECK(krun_set_control_socket(ctx, "control"), 0);
		if (strcmp(argv[i], "user") == 0) {
			CHECK(krun_setgid(ctx, getgid()), 0);
			CHECK(krun_setuid(ctx, getuid()), 0);
		}
		if (strcmp(argv[i], "stdin") == 0)
			close(0);
		if (strcmp(argv[i], "stdout") == 0)
			close(1);
		if (strcmp(argv[i], "stderr") == 0)
			close(2);
		if (strcmp(argv[i], "fork") == 0)
			in_child = 1;
	}
	CHECK(krun_set_root(ctx, argv[argc - 1]), 0);
	if (failures != 0)
		return 90;
	if (!in_child || fork() == 0) {
		FAILS(krun_start_enter(ctx), 0, "");
		return 91;
	}
	if (wait(&status) < 0 || !WIFEXITED(status))
		return 92;
	return WEXITSTATUS(status);
}
