/* Contexts, logging, features and the machine's size. */
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>

#include "check.h"

#define TEN "/123456789"
#define LONG_PATH TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN "/1234567"

static void *last_error_of_a_thread(void *unused)
{
	(void)unused;
	CHECK(strlen(krun_get_last_error()), 0);
	FAILS(krun_free_ctx(4711), ENOENT, "context 4711");
	return NULL;
}

static void contexts(void)
{
	pthread_t thread;

	CHECK(strlen(krun_get_last_error()), 0);
	CHECK(krun_create_ctx(), 0);
	CHECK(krun_create_ctx(), 1);
	CHECK(krun_free_ctx(1), 0);
	FAILS(krun_free_ctx(1), ENOENT, "context 1");
	CHECK(krun_create_ctx(), 2);
	CHECK(krun_free_ctx(0), 0);
	FAILS(krun_free_ctx(0), ENOENT, "context 0");
	FAILS(krun_free_ctx(UINT32_MAX), ENOENT, "context 4294967295");
	FAILS(krun_free_ctx((uint32_t)INT32_MAX + 1), ENOENT, "context 2147483648");
	CHECK(pthread_create(&thread, NULL, last_error_of_a_thread, NULL), 0);
	CHECK(pthread_join(thread, NULL), 0);
	check_text(__FILE__, __LINE__, "context 2147483648");
	CHECK(krun_free_ctx(2), 0);
}

static int32_t first_of_thread[4];

/* Contexts of several threads do not meet. */
static void *many_contexts(void *first)
{
	int32_t last = -1;

	for (int i = 0; i < 100; i++) {
		int32_t ctx = krun_create_ctx();

		CHECK(ctx > last, 1);
		if (i == 0)
			*(int32_t *)first = ctx;
		last = ctx;
		CHECK(krun_set_root(ctx, "/"), 0);
		CHECK(krun_set_env(ctx, LIST("A=1")), 0);
		CHECK(krun_free_ctx(ctx), 0);
		FAILS(krun_set_workdir(ctx, "/"), ENOENT, "context");
	}
	return NULL;
}

static void threads(void)
{
	pthread_t threads[4];

	for (int i = 0; i < 4; i++)
		CHECK(pthread_create(&threads[i], NULL, many_contexts, &first_of_thread[i]), 0);
	for (int i = 0; i < 4; i++)
		CHECK(pthread_join(threads[i], NULL), 0);
	for (int i = 0; i < 4; i++)
		for (int k = 0; k < i; k++)
			CHECK(first_of_thread[i] != first_of_thread[k], 1);
}

static void log_calls(void)
{
	int file = open("/dev/null", O_WRONLY);

	CHECK(krun_set_log_level(KRUN_LOG_LEVEL_OFF), 0);
	CHECK(krun_set_log_level(UINT32_MAX), 0);
	CHECK(krun_set_log_level(KRUN_LOG_LEVEL_ERROR), 0);
	CHECK(krun_init_log(KRUN_LOG_TARGET_DEFAULT, KRUN_LOG_LEVEL_TRACE, KRUN_LOG_STYLE_NEVER, 0), 0);
	CHECK(krun_init_log(2, 99, KRUN_LOG_STYLE_ALWAYS, KRUN_LOG_OPTION_NO_ENV), 0);
	CHECK(krun_init_log(1, 0, KRUN_LOG_STYLE_AUTO, 0), 0);
	FAILS(krun_init_log(0, 1, 0, 0), EINVAL, "target_fd");
	FAILS(krun_init_log(-2, 1, 0, 0), EINVAL, "target_fd");
	FAILS(krun_init_log(INT_MIN, 1, 0, 0), EINVAL, "target_fd");
	FAILS(krun_init_log(-1, 1, 3, 0), EINVAL, "style");
	FAILS(krun_init_log(-1, 1, UINT32_MAX, 0), EINVAL, "style");
	FAILS(krun_init_log(-1, 1, 0, 2), EINVAL, "options");
	FAILS(krun_init_log(-1, 1, 0, 3), EINVAL, "options");
	FAILS(krun_init_log(-1, 1, 0, UINT32_MAX), EINVAL, "options");
	FAILS(krun_init_log(INT_MAX, 1, 0, 0), EBADF, "target_fd");
	/* Not closed by a call that fails, nor by one that succeeds. */
	FAILS(krun_init_log(file, 1, 3, 0), EINVAL, "style");
	FAILS(krun_init_log(file, 1, 0, 2), EINVAL, "options");
	CHECK(krun_init_log(file, 1, 0, 0), 0);
	CHECK(krun_init_log(file, 5, 0, 1), 0);
	CHECK(fcntl(file, F_GETFD) >= 0, 1);
	CHECK(krun_set_log_level(0), 0);
	CHECK(fcntl(file, F_GETFD) >= 0, 1);
}

static void features(void)
{
	for (uint64_t feature = 0; feature < KRUN_FEATURE_INIT_BLOB; feature++)
		CHECK(krun_has_feature(feature), 0);
	CHECK(krun_has_feature(KRUN_FEATURE_INIT_BLOB), 1);
	FAILS(krun_has_feature(12), EINVAL, "feature");
	FAILS(krun_has_feature(UINT64_MAX), EINVAL, "feature");
}

static void machine(void)
{
	int32_t ctx = krun_create_ctx(), vcpus;

	/* Here, and only here, the context comes first. */
	FAILS(krun_set_vm_config(NO_CTX, 0, 0), ENOENT, "context");
	FAILS(krun_set_vm_config(ctx, 0, 1), EINVAL, "num_vcpus");
	FAILS(krun_set_vm_config(ctx, 1, 0), EINVAL, "ram_mib");
	CHECK(krun_set_vm_config(ctx, 255, UINT32_MAX), 0);
	CHECK(krun_set_vm_config(ctx, 1, 256), 0);

	vcpus = krun_get_max_vcpus();
	CHECK(vcpus > 0 || vcpus == -EINVAL, 1);
	CHECK((vcpus > 0) == (access("/dev/kvm", R_OK | W_OK) == 0), 1);
	CHECK(krun_check_nested_virt() >> 1, 0);

	CHECK(krun_set_nested_virt(ctx, true), 0);
	CHECK(krun_set_nested_virt(ctx, false), 0);
	FAILS(krun_set_nested_virt(NO_CTX, true), ENOENT, "context");
	CHECK(krun_split_irqchip(ctx, true), 0);
	FAILS(krun_split_irqchip(NO_CTX, true), ENOENT, "context");

	CHECK(krun_set_smbios_oem_strings(ctx, LIST("a", "b")), 0);
	CHECK(krun_set_smbios_oem_strings(ctx, EMPTY_LIST), 0);
	FAILS(krun_set_smbios_oem_strings(NO_CTX, NULL), EINVAL, "oem_strings");
	FAILS(krun_set_smbios_oem_strings(NO_CTX, LIST("a", BAD_TEXT)), EINVAL, "oem_strings[1]");
	FAILS(krun_set_smbios_oem_strings(NO_CTX, LIST("a")), ENOENT, "context");
	CHECK(krun_set_cpu_template(ctx, "T2"), 0);
	CHECK(krun_set_cpu_template(ctx, "C3"), 0);
	CHECK(krun_set_cpu_template(ctx, "host"), 0);
	CHECK(krun_set_cpu_template(ctx, NULL), 0);
	FAILS(krun_set_cpu_template(NO_CTX, "T2S"), EINVAL, "T2S");
	FAILS(krun_set_cpu_template(NO_CTX, BAD_TEXT), EINVAL, "name");
	FAILS(krun_set_cpu_template(NO_CTX, NULL), ENOENT, "context");

	CHECK(krun_setuid(ctx, 0), 0);
	CHECK(krun_setgid(ctx, UINT32_MAX), 0);
	FAILS(krun_setuid(NO_CTX, 0), ENOENT, "context");
	FAILS(krun_setgid(NO_CTX, 0), ENOENT, "context");

	CHECK(krun_set_control_socket(ctx, "/nowhere/first"), 0);
	CHECK(krun_set_control_socket(ctx, "/nowhere/second"), 0);
	FAILS(krun_set_control_socket(NO_CTX, NULL), EINVAL, "c_filepath");
	FAILS(krun_set_control_socket(NO_CTX, BAD_TEXT), EINVAL, "c_filepath");
	FAILS(krun_set_control_socket(NO_CTX, ""), EINVAL, "0 bytes");
	FAILS(krun_set_control_socket(NO_CTX, LONG_PATH), EINVAL, "108 bytes");
	FAILS(krun_set_control_socket(NO_CTX, "/x"), ENOENT, "context");

	FAILS(krun_send_ctrl_alt_del(ctx), ENOENT, "no machine");
	FAILS(krun_send_ctrl_alt_del(NO_CTX), ENOENT, "no machine");

	CHECK(krun_set_report_guest_failure(ctx, true), 0);
	FAILS(krun_set_report_guest_failure(NO_CTX, true), ENOENT, "context");
	CHECK(krun_free_ctx(ctx), 0);
}

static void shutdown_descriptor(void)
{
	int32_t ctx = krun_create_ctx(), fd = krun_get_shutdown_eventfd(ctx);

	FAILS(krun_get_shutdown_eventfd(NO_CTX), ENOENT, "context");
	CHECK(fd > 2, 1);
	CHECK(krun_get_shutdown_eventfd(ctx), fd);
	CHECK(fcntl(fd, F_GETFD), FD_CLOEXEC);
	CHECK(krun_free_ctx(ctx), 0);
	CHECK(fcntl(fd, F_GETFD), -1);
	FAILS(krun_get_shutdown_eventfd(ctx), ENOENT, "context");
}

int main(void)
{
	contexts();
	threads();
	log_calls();
	features();
	machine();
	shutdown_descriptor();
	return result();
}
