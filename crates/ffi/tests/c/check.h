/* Expected results of calls. */
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "libkrun.h"

static int failures;

static inline void check_number(const char *file, int line, const char *call, long got, long expected)
{
	if (got != expected) {
		printf("%s:%d: %s gives %ld, not %ld; last error: %s\n", file, line, call, got, expected,
		       krun_get_last_error());
		failures++;
	}
}

static inline void check_text(const char *file, int line, const char *part)
{
	if (strstr(krun_get_last_error(), part) == NULL) {
		printf("%s:%d: the last error is \"%s\", without \"%s\"\n", file, line, krun_get_last_error(), part);
		failures++;
	}
}

/* The call gives this. */
#define CHECK(call, expected) check_number(__FILE__, __LINE__, #call, (long)(call), (long)(expected))

/* The call fails with this errno, and says so. */
#define FAILS(call, error, part)                                                                                     \
	(check_number(__FILE__, __LINE__, #call, (long)(call), -(long)(error)), check_text(__FILE__, __LINE__, part))

/* No such context, ever. */
#define NO_CTX 0x7fffffffu

/* Not UTF-8. */
#define BAD_TEXT "a\xff"

/* An array of strings. */
#define LIST(...) ((const char *const[]){ __VA_ARGS__, NULL })
#define EMPTY_LIST ((const char *const[]){ NULL })

static inline int result(void)
{
	return failures == 0 ? 0 : 1;
}

#endif
