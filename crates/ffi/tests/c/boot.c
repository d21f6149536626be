/* boot ROOT PROGRAM [ARGUMENT...]: runs a program in a guest. The environment of this process is the guest's. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libkrun.h"

static int fail(const char *call, int error)
{
	fprintf(stderr, "%s: %s: %s\n", call, strerror(-error), krun_get_last_error());
	return 100;
}

int main(int argc, char **argv)
{
	int32_t ctx, error;

	if (argc < 3)
		return 99;
	if ((error = krun_set_log_level(KRUN_LOG_LEVEL_WARN)) != 0)
		return fail("krun_set_log_level", error);
	if ((ctx = krun_create_ctx()) < 0)
		return fail("krun_create_ctx", ctx);
	if ((error = krun_set_vm_config(ctx, 1, 256)) != 0)
		return fail("krun_set_vm_config", error);
	if ((error = krun_set_root(ctx, argv[1])) != 0)
		return fail("krun_set_root", error);
	if ((error = krun_set_exec(ctx, argv[2], (const char *const *)(argv + 3), NULL)) != 0)
		return fail("krun_set_exec", error);
	return fail("krun_start_enter", krun_start_enter(ctx));
}
