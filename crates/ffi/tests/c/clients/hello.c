/* hello ROOT: the least a program does to run something in a guest. */
#include <libkrun.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	const char *const arguments[] = { "hello from", "a guest", NULL };
	const char *const environment[] = { NULL };
	int ctx = krun_create_ctx();

	if (argc != 2 || ctx < 0 || krun_set_vm_config((uint32_t)ctx, 1, 256) != 0 ||
	    krun_set_root((uint32_t)ctx, argv[1]) != 0 ||
	    krun_set_exec((uint32_t)ctx, "/bin/echo", arguments, environment) != 0)
		return 100;
	fprintf(stderr, "krun_start_enter: %d: %s\n", krun_start_enter((uint32_t)ctx), krun_get_last_error());
	return 101;
}
