/* Kernels in files. */
#include <fcntl.h>
#include <sys/stat.h>

#include "check.h"

int main(void)
{
	int32_t ctx = krun_create_ctx();

	CHECK(krun_set_kernel(ctx, "/nowhere", KRUN_KERNEL_FORMAT_ELF, NULL, NULL), 0);
	CHECK(krun_set_kernel(ctx, "", KRUN_KERNEL_FORMAT_IMAGE_ZSTD, "/", "console=x"), 0);
	CHECK(krun_set_kernel(ctx, "/nowhere", KRUN_KERNEL_FORMAT_IMAGE_BZ2, NULL, ""), 0);
	CHECK(krun_set_kernel(ctx, "/nowhere", KRUN_KERNEL_FORMAT_IMAGE_GZ, NULL, ""), 0);
	CHECK(krun_set_kernel(ctx, "/nowhere", KRUN_KERNEL_FORMAT_PE_GZ, NULL, ""), 0);
	FAILS(krun_set_kernel(NO_CTX, NULL, 6, NULL, NULL), EINVAL, "kernel_path");
	FAILS(krun_set_kernel(NO_CTX, BAD_TEXT, 6, NULL, NULL), EINVAL, "kernel_path");
	FAILS(krun_set_kernel(NO_CTX, "/x", 6, BAD_TEXT, NULL), EINVAL, "kernel_format");
	FAILS(krun_set_kernel(NO_CTX, "/x", UINT32_MAX, NULL, NULL), EINVAL, "kernel_format");
	FAILS(krun_set_kernel(NO_CTX, "/x", 1, BAD_TEXT, BAD_TEXT), EINVAL, "initramfs");
	FAILS(krun_set_kernel(NO_CTX, "/x", 1, "/nowhere", BAD_TEXT), EINVAL, "initramfs");
	FAILS(krun_set_kernel(NO_CTX, "/x", 1, NULL, BAD_TEXT), EINVAL, "cmdline");
	FAILS(krun_set_kernel(NO_CTX, "/x", 1, "/", "x"), ENOENT, "context");
	FAILS(krun_set_kernel(NO_CTX, "/nowhere", KRUN_KERNEL_FORMAT_RAW, NULL, NULL), EINVAL, "kernel_path");
	FAILS(krun_set_kernel(NO_CTX, "/dev/null", KRUN_KERNEL_FORMAT_RAW, NULL, NULL), EINVAL, "no file");
	FAILS(krun_set_kernel(NO_CTX, "/dev/tty", KRUN_KERNEL_FORMAT_RAW, NULL, NULL), EINVAL, "kernel_path");
	CHECK(mkfifo("fifo", 0600), 0);
	FAILS(krun_set_kernel(NO_CTX, "fifo", KRUN_KERNEL_FORMAT_RAW, NULL, NULL), EINVAL, "no file");
	CHECK(close(open("empty", O_CREAT | O_WRONLY, 0600)), 0);
	FAILS(krun_set_kernel(NO_CTX, "empty", KRUN_KERNEL_FORMAT_RAW, NULL, NULL), EINVAL, "empty");
	FAILS(krun_set_kernel(NO_CTX, "/proc/self/exe", KRUN_KERNEL_FORMAT_RAW, NULL, NULL), ENOENT, "context");

	CHECK(krun_set_kernel_path(ctx, "/nowhere"), 0);
	FAILS(krun_set_kernel_path(NO_CTX, NULL), EINVAL, "path");
	FAILS(krun_set_kernel_path(NO_CTX, BAD_TEXT), EINVAL, "path");
	FAILS(krun_set_kernel_path(NO_CTX, "nowhere"), EINVAL, "absolute");
	FAILS(krun_set_kernel_path(NO_CTX, "/nowhere"), ENOENT, "context");
	CHECK(krun_set_kernel_raw(ctx, "/nowhere", 0, 0, NULL, NULL), 0);
	FAILS(krun_set_kernel_raw(NO_CTX, NULL, 0, 0, NULL, NULL), EINVAL, "kernel_path");
	FAILS(krun_set_kernel_raw(NO_CTX, "/x", 0, 0, BAD_TEXT, NULL), EINVAL, "initramfs");
	FAILS(krun_set_kernel_raw(NO_CTX, "/x", 0, 0, NULL, BAD_TEXT), EINVAL, "cmdline");
	FAILS(krun_set_kernel_raw(NO_CTX, "/x", 0, 0, NULL, NULL), ENOENT, "context");
	CHECK(krun_set_firmware(ctx, "/nowhere"), 0);
	FAILS(krun_set_firmware(NO_CTX, NULL), EINVAL, "firmware_path");
	FAILS(krun_set_firmware(NO_CTX, BAD_TEXT), EINVAL, "firmware_path");
	FAILS(krun_set_firmware(NO_CTX, "/x"), ENOENT, "context");

	/* None of them needs libkrunfw, which is not there, to fail for its own reason. */
	FAILS(krun_start_enter(ctx), EINVAL, "/nowhere: cannot be read");
	ctx = krun_create_ctx();
	CHECK(krun_set_firmware(ctx, "/nowhere"), 0);
	FAILS(krun_start_enter(ctx), EINVAL, "firmware: /nowhere: cannot be read");
	ctx = krun_create_ctx();
	CHECK(krun_set_kernel(ctx, "/proc/self/exe", KRUN_KERNEL_FORMAT_ELF, NULL, NULL), 0);
	CHECK(krun_set_kernel(ctx, "/proc/self/exe", KRUN_KERNEL_FORMAT_RAW, NULL, NULL), 0);
	FAILS(krun_start_enter(ctx), EINVAL, "raw");
	ctx = krun_create_ctx();
	CHECK(krun_set_firmware(ctx, "/nowhere"), 0);
	CHECK(krun_set_kernel(ctx, "/nowhere", KRUN_KERNEL_FORMAT_ELF, NULL, NULL), 0);
	FAILS(krun_start_enter(ctx), EINVAL, "/nowhere: cannot be read");
	ctx = krun_create_ctx();
	CHECK(krun_set_kernel(ctx, "/proc/self/exe", KRUN_KERNEL_FORMAT_ELF, NULL, NULL), 0);
	FAILS(krun_start_enter(ctx), EINVAL, "has a segment");
	ctx = krun_create_ctx();
	CHECK(krun_set_kernel(ctx, __FILE__, KRUN_KERNEL_FORMAT_IMAGE_GZ, NULL, NULL), 0);
	FAILS(krun_start_enter(ctx), EINVAL, "no x86-64 kernel");
	ctx = krun_create_ctx();
	CHECK(krun_set_kernel_path(ctx, "/nowhere"), 0);
	FAILS(krun_start_enter(ctx), EINVAL, "/nowhere");
	ctx = krun_create_ctx();
	CHECK(krun_set_kernel_raw(ctx, "/proc/self/exe", 0x1000, 0x1000, NULL, NULL), 0);
	FAILS(krun_start_enter(ctx), EINVAL, "load address");
	ctx = krun_create_ctx();
	CHECK(krun_set_kernel(ctx, "/proc/self/exe", 1, NULL, "a -- b"), 0);
	FAILS(krun_start_enter(ctx), EINVAL, "exec");
	return result();
}
