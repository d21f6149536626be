/* sandbox ROOT READ_WRITE READ_ONLY CONSOLE SCRIPT: a sandbox runtime. Makes the machine in a child process, in the order in
 * which such a runtime makes its calls, and tells how the child ended. */
#include <libkrun.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

static void check(const char *call, int result)
{
	if (result < 0) {
		fprintf(stderr, "%s: %d: %s\n", call, result, krun_get_last_error());
		_exit(100);
	}
}

#define CALL(call) check(#call, call)

static void machine(char **argv)
{
	char limits[] = "6=4096:8192", directory[] = "/tmp", program[] = "/bin/sh", entry[] = "GREETING=hello there";
	const char *rlimits[] = { limits, NULL };
	const char *arguments[] = { "-c", argv[5], NULL };
	const char *environment[] = { "PATH=/bin:/sbin", entry, "EMPTY=", NULL };
	int ctx;

	CALL(krun_set_log_level(KRUN_LOG_LEVEL_WARN));
	CALL(ctx = krun_create_ctx());
	CALL(krun_set_vm_config((uint32_t)ctx, 2, 384));
	CALL(krun_set_rlimits((uint32_t)ctx, rlimits));
	CALL(krun_add_virtiofs3((uint32_t)ctx, "work", argv[2], 0, false));
	CALL(krun_add_virtiofs3((uint32_t)ctx, "data", argv[3], 0, true));
	CALL(krun_set_root((uint32_t)ctx, argv[1]));
	CALL(krun_set_workdir((uint32_t)ctx, directory));
	CALL(krun_set_exec((uint32_t)ctx, program, arguments, environment));
	CALL(krun_set_console_output((uint32_t)ctx, argv[4]));
	/* All of it was copied. */
	memset(limits, 'x', sizeof(limits) - 1);
	memset(directory, 'x', sizeof(directory) - 1);
	memset(program, 'x', sizeof(program) - 1);
	memset(entry, 'x', sizeof(entry) - 1);
	memset(rlimits, 0, sizeof(rlimits));
	memset(arguments, 0, sizeof(arguments));
	memset(environment, 0, sizeof(environment));
	CALL(krun_start_enter((uint32_t)ctx));
	_exit(101);
}

int main(int argc, char **argv)
{
	int status;
	pid_t child;

	if (argc != 6)
		return 2;
	child = fork();
	if (child == 0)
		machine(argv);
	if (child < 0 || waitpid(child, &status, 0) != child)
		return 3;
	if (WIFEXITED(status))
		printf("exited %d\n", WEXITSTATUS(status));
	else
		printf("signal %d\n", WTERMSIG(status));
	return 0;
}
