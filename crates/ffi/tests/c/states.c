/* Calls everything once with good arguments and prints "NAME RESULT" for each. Argument: an empty directory. Needs a
 * kernel bundle and KVM. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "libkrun.h"

#define LIST(...) ((const char *const[]){ __VA_ARGS__, NULL })
#define CALL(name, arguments) printf("%s %d\n", #name, (int)name arguments)

static int32_t fresh(void)
{
	return krun_create_ctx();
}

static void process(void)
{
	printf("krun_get_last_error %d\n", krun_get_last_error() == NULL ? -1 : 0);
	CALL(krun_set_log_level, (KRUN_LOG_LEVEL_OFF));
	CALL(krun_init_log, (KRUN_LOG_TARGET_DEFAULT, KRUN_LOG_LEVEL_OFF, KRUN_LOG_STYLE_AUTO, 0));
	CALL(krun_create_ctx, ());
	CALL(krun_free_ctx, (fresh()));
	CALL(krun_has_feature, (KRUN_FEATURE_NET));
	CALL(krun_get_max_vcpus, ());
	CALL(krun_check_nested_virt, ());
}

static void machine(int32_t ctx)
{
	CALL(krun_set_vm_config, (ctx, 1, 128));
	CALL(krun_set_nested_virt, (ctx, true));
	CALL(krun_split_irqchip, (ctx, true));
	CALL(krun_set_smbios_oem_strings, (ctx, LIST("a")));
	CALL(krun_set_cpu_template, (ctx, "T2"));
	CALL(krun_set_kernel_path, (ctx, "/kernel"));
	CALL(krun_set_kernel_raw, (ctx, "flat", 0x200000, 0x200000, NULL, NULL));
	CALL(krun_setuid, (ctx, getuid()));
	CALL(krun_setgid, (ctx, getgid()));
	CALL(krun_set_kernel, (ctx, "vmlinux", KRUN_KERNEL_FORMAT_ELF, NULL, NULL));
	CALL(krun_set_firmware, (ctx, "firmware"));
	CALL(krun_set_gpu_options, (ctx, VIRGLRENDERER_VENUS));
	CALL(krun_set_gpu_options2, (ctx, VIRGLRENDERER_VENUS, 4096));
	CALL(krun_set_gpu_render_server_fd, (ctx, 3));
	CALL(krun_set_snd_device, (ctx, true));
	CALL(krun_set_display_backend, (ctx, "", 1));
	CALL(krun_add_display, (ctx, 800, 600));
	CALL(krun_display_set_edid, (ctx, 0, (const uint8_t *)"", 1));
	CALL(krun_display_set_dpi, (ctx, 0, 96));
	CALL(krun_display_set_physical_size, (ctx, 0, 100, 100));
	CALL(krun_display_set_refresh_rate, (ctx, 0, 60));
	CALL(krun_add_input_device, (ctx, "", 1, "", 1));
	CALL(krun_add_input_device_fd, (ctx, 3));
}

static void files(int32_t ctx)
{
	const uint8_t *init;
	size_t len;

	CALL(krun_add_disk, (ctx, "id", "/disk", false));
	CALL(krun_add_disk2, (ctx, "id", "/disk", KRUN_DISK_FORMAT_QCOW2, false));
	CALL(krun_add_disk3, (ctx, "id", "/disk", KRUN_DISK_FORMAT_RAW, false, true, KRUN_SYNC_FULL));
	CALL(krun_set_root_disk, (ctx, "/disk"));
	CALL(krun_set_data_disk, (ctx, "/disk"));
	CALL(krun_set_root_disk_remount, (ctx, "/dev/vda", "ext4", NULL));
	CALL(krun_set_root, (ctx, "/"));
	CALL(krun_add_virtiofs, (ctx, "a", "/"));
	CALL(krun_add_virtiofs2, (ctx, "b", "/", 4096));
	CALL(krun_add_virtiofs3, (ctx, "c", "/", 4096, true));
	CALL(krun_add_virtiofs4, (ctx, "d", "/", 4096, true, KRUN_SEMANTICS_LINUX_SIMPLIFIED));
	CALL(krun_fs_add_overlay_dir, (ctx, "a", "dir", 0755));
	CALL(krun_fs_add_overlay_file, (ctx, "a", "dir/file", (const uint8_t *)"x", 1, 0644, false));
	CALL(krun_set_mapped_volumes, (ctx, LIST("/:/")));
	CALL(krun_disable_implicit_init, (ctx));
	CALL(krun_get_default_init, (&init, &len));
}

static void sockets(int32_t ctx)
{
	uint8_t mac[6] = { 2, 0, 0, 0, 0, 1 };
	char tap[] = "tap0", path[] = "/socket";

	CALL(krun_set_egress_policy, (ctx, "{\"rules\":[]}"));
	CALL(krun_set_port_map, (ctx, LIST("80:80")));
	CALL(krun_set_expose_unmapped_ports, (ctx, true));
	CALL(krun_add_vsock_port, (ctx, 1, "/socket"));
	CALL(krun_add_vsock_port2, (ctx, 2, "/no/such/directory/socket", true));
	CALL(krun_disable_implicit_vsock, (ctx));
	CALL(krun_add_vsock, (ctx, KRUN_TSI_HIJACK_INET));
	CALL(krun_set_net_mac, (ctx, mac));
	CALL(krun_set_passt_fd, (ctx, 3));
	CALL(krun_set_gvproxy_path, (ctx, path));
	CALL(krun_add_net_unixstream, (ctx, "/socket", -1, mac, 0, 0));
	CALL(krun_add_net_unixgram, (ctx, "/socket", -1, mac, 0, 0));
	CALL(krun_add_net_tap, (ctx, tap, mac, 0, 0));
}

static void consoles(int32_t ctx)
{
	int tty, pty = posix_openpt(O_RDWR | O_NOCTTY);

	if (pty < 0 || grantpt(pty) != 0 || unlockpt(pty) != 0)
		exit(2);
	tty = open(ptsname(pty), O_RDWR | O_NOCTTY);
	CALL(krun_set_console_output, (ctx, "/file"));
	CALL(krun_disable_implicit_console, (ctx));
	CALL(krun_set_kernel_console, (ctx, "hvc0"));
	CALL(krun_add_virtio_console_multiport, (ctx));
	CALL(krun_add_console_port_tty, (ctx, 0, "tty", tty));
	CALL(krun_add_console_port_inout, (ctx, 0, "io", 0, 1));
	CALL(krun_add_virtio_console_default, (ctx, 0, 1, 2));
	CALL(krun_add_serial_console_default, (ctx, 0, 1));
}

static void workload(int32_t ctx)
{
	CALL(krun_set_exec, (ctx, "/bin/sh", LIST("-c"), LIST("A=1")));
	CALL(krun_set_env, (ctx, NULL));
	CALL(krun_set_control_socket, (ctx, "/socket"));
	CALL(krun_set_workdir, (ctx, "/"));
	CALL(krun_set_rlimits, (ctx, LIST("7=1:2")));
	CALL(krun_set_report_guest_failure, (ctx, false));
	/* No machine runs, which is the answer. */
	uint64_t next = 0;
	char log[100];

	printf("krun_update_egress_policy %d\n", krun_update_egress_policy(ctx, "{\"rules\":[]}") == -ENOENT ? 0 : -1);
	printf("krun_read_egress_log %d\n", krun_read_egress_log(ctx, &next, log, sizeof(log)) == -ENOENT ? 0 : -1);
	printf("krun_send_ctrl_alt_del %d\n", krun_send_ctrl_alt_del(ctx) == -ENOENT ? 0 : -1);
	printf("krun_get_shutdown_eventfd %d\n", krun_get_shutdown_eventfd(ctx) > 2 ? 0 : -1);
}

static void start(const char *root)
{
	int32_t ctx = fresh();
	int status;

	fflush(stdout);
	krun_set_root(ctx, root);
	if (fork() == 0)
		_exit(krun_start_enter(ctx) == 0 ? 77 : 78);
	/* The guest resets the machine without a word. */
	printf("krun_start_enter %d\n", wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 125 ? 0 : -1);
}

int main(int argc, char **argv)
{
	int32_t ctx = fresh();

	if (argc != 2)
		return 2;
	process();
	machine(ctx);
	files(ctx);
	sockets(ctx);
	consoles(ctx);
	workload(ctx);
	start(argv[1]);
	return 0;
}
