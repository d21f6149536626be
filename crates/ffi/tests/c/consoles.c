/* Consoles. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>

#include "check.h"

int main(void)
{
	int32_t ctx = krun_create_ctx(), other = krun_create_ctx();
	int tty, pipe_ends[2], pty = posix_openpt(O_RDWR | O_NOCTTY);

	CHECK(pty >= 0 && grantpt(pty) == 0 && unlockpt(pty) == 0, 1);
	tty = open(ptsname(pty), O_RDWR | O_NOCTTY);
	CHECK(tty >= 0 && pipe(pipe_ends) == 0, 1);

	CHECK(krun_disable_implicit_console(ctx), 0);
	CHECK(krun_disable_implicit_console(ctx), 0);
	FAILS(krun_disable_implicit_console(NO_CTX), ENOENT, "context");

	FAILS(krun_set_console_output(NO_CTX, NULL), EINVAL, "c_filepath");
	FAILS(krun_set_console_output(NO_CTX, BAD_TEXT), EINVAL, "c_filepath");
	FAILS(krun_set_console_output(NO_CTX, "/x"), ENOENT, "context");
	CHECK(krun_set_console_output(ctx, "/nowhere/first"), 0);
	FAILS(krun_set_console_output(ctx, "/nowhere/second"), EINVAL, "/nowhere/first");
	FAILS(krun_set_console_output(ctx, "/nowhere/third"), EINVAL, "/nowhere/first");

	CHECK(krun_set_kernel_console(ctx, "hvc1"), 0);
	CHECK(krun_set_kernel_console(ctx, ""), 0);
	FAILS(krun_set_kernel_console(NO_CTX, NULL), EINVAL, "console_id");
	FAILS(krun_set_kernel_console(NO_CTX, BAD_TEXT), EINVAL, "console_id");
	FAILS(krun_set_kernel_console(NO_CTX, "hvc0"), ENOENT, "context");

	/* Ids count consoles of both kinds, per context. */
	CHECK(krun_add_virtio_console_default(ctx, 0, 1, 2), 0);
	CHECK(krun_add_virtio_console_default(ctx, -1, INT_MIN, INT_MAX), 0);
	CHECK(krun_add_virtio_console_multiport(ctx), 2);
	CHECK(krun_add_virtio_console_multiport(ctx), 3);
	CHECK(krun_add_virtio_console_multiport(other), 0);
	FAILS(krun_add_virtio_console_default(NO_CTX, 0, 1, 2), ENOENT, "context");
	FAILS(krun_add_virtio_console_multiport(NO_CTX), ENOENT, "context");

	CHECK(krun_add_console_port_tty(ctx, 2, "tty", tty), 0);
	CHECK(krun_add_console_port_tty(ctx, 3, NULL, tty), 0);
	FAILS(krun_add_console_port_tty(NO_CTX, 0, BAD_TEXT, -1), EINVAL, "tty_fd");
	FAILS(krun_add_console_port_tty(NO_CTX, 0, BAD_TEXT, pipe_ends[0]), EINVAL, "name");
	FAILS(krun_add_console_port_tty(NO_CTX, 0, "x", pipe_ends[0]), ENOTTY, "tty_fd");
	FAILS(krun_add_console_port_tty(NO_CTX, 0, NULL, INT_MAX), ENOTTY, "tty_fd");
	FAILS(krun_add_console_port_tty(NO_CTX, 2, "x", tty), ENOENT, "context");
	FAILS(krun_add_console_port_tty(ctx, 0, "x", tty), EINVAL, "console_id");
	FAILS(krun_add_console_port_tty(ctx, 4, "x", tty), EINVAL, "console_id");
	FAILS(krun_add_console_port_tty(ctx, UINT32_MAX, "x", tty), EINVAL, "console_id");

	CHECK(krun_add_console_port_inout(ctx, 2, "io", pipe_ends[0], pipe_ends[1]), 0);
	CHECK(krun_add_console_port_inout(ctx, 2, NULL, -1, -1), 0);
	CHECK(krun_add_console_port_inout(ctx, 2, "", INT_MIN, INT_MAX), 0);
	FAILS(krun_add_console_port_inout(NO_CTX, 0, BAD_TEXT, 0, 0), EINVAL, "name");
	FAILS(krun_add_console_port_inout(NO_CTX, 2, "x", 0, 0), ENOENT, "context");
	FAILS(krun_add_console_port_inout(ctx, 1, "x", 0, 0), EINVAL, "console_id");
	FAILS(krun_add_console_port_inout(ctx, 4, "x", 0, 0), EINVAL, "console_id");
	FAILS(krun_add_console_port_inout(other, 2, "x", 0, 0), EINVAL, "console_id");

	CHECK(krun_add_serial_console_default(ctx, pipe_ends[0], pipe_ends[1]), 0);
	CHECK(krun_add_serial_console_default(ctx, -1, INT_MAX), 0);
	FAILS(krun_add_serial_console_default(NO_CTX, 0, 1), ENOENT, "context");

	/* Nothing above was taken over. */
	CHECK(krun_free_ctx(ctx), 0);
	CHECK(krun_free_ctx(other), 0);
	CHECK(fcntl(tty, F_GETFD) >= 0 && fcntl(pipe_ends[0], F_GETFD) >= 0 && fcntl(0, F_GETFD) >= 0, 1);
	return result();
}
