/* pair ROOT: two machines at once, one in each child. */
#include <libkrun.h>
#include <stdio.h>
#include <sys/wait.h>

static void machine(const char *root, const char *script)
{
	const char *const arguments[] = { "-c", script, NULL };
	const char *const environment[] = { "PATH=/bin", NULL };
	int ctx = krun_create_ctx();

	if (ctx < 0 || krun_set_vm_config((uint32_t)ctx, 1, 256) != 0 || krun_set_root((uint32_t)ctx, root) != 0 ||
	    krun_set_exec((uint32_t)ctx, "/bin/sh", arguments, environment) != 0)
		_exit(100);
	krun_start_enter((uint32_t)ctx);
	_exit(101);
}

int main(int argc, char **argv)
{
	/* Each waits for the other. */
	const char *const scripts[] = {
		"echo > /tmp/first; while [ ! -e /tmp/second ]; do sleep 0.1; done; exit 11",
		"echo > /tmp/second; while [ ! -e /tmp/first ]; do sleep 0.1; done; exit 12",
	};
	pid_t children[2];
	int status;

	if (argc != 2)
		return 2;
	for (int i = 0; i < 2; i++) {
		children[i] = fork();
		if (children[i] == 0)
			machine(argv[1], scripts[i]);
	}
	for (int i = 0; i < 2; i++) {
		if (waitpid(children[i], &status, 0) < 0 || !WIFEXITED(status))
			return 3;
		printf("%d\n", WEXITSTATUS(status));
	}
	return 0;
}
