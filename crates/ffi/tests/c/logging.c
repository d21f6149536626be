/* Failing calls, which are logged at level debug, with different loggers. */
#include "check.h"

int main(void)
{
	krun_free_ctx(7777);
	CHECK(krun_init_log(1, KRUN_LOG_LEVEL_DEBUG, KRUN_LOG_STYLE_ALWAYS, 0), 0);
	krun_free_ctx(1111);
	CHECK(krun_init_log(1, KRUN_LOG_LEVEL_INFO, KRUN_LOG_STYLE_NEVER, 0), 0);
	krun_free_ctx(2222);
	CHECK(krun_init_log(2, KRUN_LOG_LEVEL_TRACE, KRUN_LOG_STYLE_AUTO, KRUN_LOG_OPTION_NO_ENV), 0);
	krun_free_ctx(3333);
	CHECK(krun_init_log(2, KRUN_LOG_LEVEL_OFF, KRUN_LOG_STYLE_AUTO, KRUN_LOG_OPTION_NO_ENV), 0);
	krun_free_ctx(4444);
	return result();
}
