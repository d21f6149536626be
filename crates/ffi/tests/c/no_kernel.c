/* A start without libkrunfw, and of contexts that do not exist. */
#include "check.h"

int main(void)
{
	int32_t ctx = krun_create_ctx(), freed = krun_create_ctx();

	CHECK(ctx, 0);
	CHECK(krun_free_ctx(freed), 0);
	FAILS(krun_start_enter(NO_CTX), ENOENT, "context");
	FAILS(krun_start_enter(freed), ENOENT, "context");
	FAILS(krun_start_enter(ctx), ENOENT, "libkrunfw.so.5");
	FAILS(krun_start_enter(ctx), ENOENT, "context 0");
	FAILS(krun_free_ctx(ctx), ENOENT, "context 0");
	return result();
}
