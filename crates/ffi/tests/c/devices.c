/* Calls for devices: their checks, and what they answer without the device. */
#include <limits.h>

#include "check.h"

static void disks(int32_t ctx)
{
	FAILS(krun_add_disk(ctx, "id", "/x", false), ENOTSUP, "block");
	FAILS(krun_add_disk(NO_CTX, "id", NULL, false), EINVAL, "disk_path: NULL");
	FAILS(krun_add_disk(NO_CTX, "id", BAD_TEXT, false), EINVAL, "disk_path");
	FAILS(krun_add_disk(NO_CTX, NULL, "/x", false), EINVAL, "block_id: NULL");
	FAILS(krun_add_disk(NO_CTX, BAD_TEXT, "/x", false), EINVAL, "block_id");
	FAILS(krun_add_disk(NO_CTX, "", "/x", false), ENOENT, "context");
	FAILS(krun_add_disk2(ctx, "id", "/x", KRUN_DISK_FORMAT_VMDK, true), ENOTSUP, "block");
	FAILS(krun_add_disk2(NO_CTX, "id", "/x", 3, true), EINVAL, "disk_format");
	FAILS(krun_add_disk2(NO_CTX, "id", "/x", 2, true), ENOENT, "context");
	FAILS(krun_add_disk3(ctx, "id", "/x", 1, true, true, KRUN_SYNC_FULL), ENOTSUP, "block");
	FAILS(krun_add_disk3(NO_CTX, "id", "/x", 3, true, true, 3), EINVAL, "disk_format");
	FAILS(krun_add_disk3(NO_CTX, "id", "/x", 1, true, true, 3), EINVAL, "sync_mode");
	FAILS(krun_add_disk3(NO_CTX, "id", "/x", 1, true, true, KRUN_SYNC_NONE), ENOENT, "context");
	FAILS(krun_set_root_disk(ctx, "/x"), ENOTSUP, "block");
	FAILS(krun_set_root_disk(NO_CTX, NULL), EINVAL, "disk_path");
	FAILS(krun_set_root_disk(NO_CTX, "/x"), ENOENT, "context");
	FAILS(krun_set_data_disk(ctx, "/x"), ENOTSUP, "block");
	FAILS(krun_set_data_disk(NO_CTX, BAD_TEXT), EINVAL, "disk_path");
	FAILS(krun_set_data_disk(NO_CTX, "/x"), ENOENT, "context");

	FAILS(krun_set_root_disk_remount(NO_CTX, NULL, NULL, NULL), EINVAL, "device");
	FAILS(krun_set_root_disk_remount(NO_CTX, "/dev/vda", BAD_TEXT, NULL), EINVAL, "fstype");
	FAILS(krun_set_root_disk_remount(NO_CTX, "/dev/vda", "auto", BAD_TEXT), EINVAL, "options");
	FAILS(krun_set_root_disk_remount(NO_CTX, "/dev/vda", NULL, NULL), ENOENT, "context");
	FAILS(krun_set_root_disk_remount(ctx, "/dev/vda", NULL, NULL), EINVAL, "no disk");
	CHECK(krun_set_root(ctx, "/"), 0);
	FAILS(krun_set_root_disk_remount(ctx, "/dev/vda", "ext4", ""), EINVAL, "root directory");
}

static void networks(int32_t ctx)
{
	uint8_t mac[6] = { 2, 0, 0, 0, 0, 1 };
	const uint32_t compat = COMPAT_NET_FEATURES, all = 0x5d83;

	FAILS(krun_add_net_unixstream(ctx, "/x", -1, mac, compat, NET_FLAG_DHCP_CLIENT), ENOTSUP, "network");
	FAILS(krun_add_net_unixstream(ctx, NULL, 3, mac, all, 0), ENOTSUP, "network");
	FAILS(krun_add_net_unixstream(ctx, BAD_TEXT, 3, mac, 0, 0), ENOTSUP, "network");
	FAILS(krun_add_net_unixstream(NO_CTX, BAD_TEXT, -1, mac, 0, 0), EINVAL, "c_path and fd");
	FAILS(krun_add_net_unixstream(NO_CTX, "/x", 0, mac, 0, 0), EINVAL, "c_path and fd");
	FAILS(krun_add_net_unixstream(NO_CTX, NULL, INT_MIN, mac, 0, 0), EINVAL, "c_path and fd");
	FAILS(krun_add_net_unixstream(NO_CTX, "/x", -1, NULL, 0, 0), EINVAL, "c_mac");
	FAILS(krun_add_net_unixstream(NO_CTX, "/x", -1, mac, UINT32_MAX, NET_FLAG_VFKIT), EINVAL, "flags");
	FAILS(krun_add_net_unixstream(NO_CTX, "/x", -1, mac, 4, 0), EINVAL, "features");
	FAILS(krun_add_net_unixstream(NO_CTX, "/x", -1, mac, all, 0), ENOENT, "context");

	FAILS(krun_add_net_unixgram(ctx, "/x", -1, mac, all, NET_FLAG_VFKIT | NET_FLAG_DHCP_CLIENT), ENOTSUP, "network");
	FAILS(krun_add_net_unixgram(NO_CTX, "/x", 3, mac, 0, 0), EINVAL, "c_path and fd");
	FAILS(krun_add_net_unixgram(NO_CTX, "/x", -1, NULL, 0, 0), EINVAL, "c_mac");
	FAILS(krun_add_net_unixgram(NO_CTX, "/x", -1, mac, UINT32_MAX, UINT32_MAX), EINVAL, "features");
	FAILS(krun_add_net_unixgram(NO_CTX, "/x", -1, mac, 0, 4), EINVAL, "flags");
	FAILS(krun_add_net_unixgram(NO_CTX, "/x", -1, mac, 0, 3), ENOENT, "context");

	FAILS(krun_add_net_tap(ctx, (char *)"tap-15-bytes-ab", mac, all, 0), ENOTSUP, "network");
	FAILS(krun_add_net_tap(NO_CTX, (char *)"tap-16-bytes-abc", mac, all, 0), EINVAL, "16 bytes");
	FAILS(krun_add_net_tap(NO_CTX, NULL, mac, all, 0), EINVAL, "c_tap_name");
	FAILS(krun_add_net_tap(NO_CTX, (char *)BAD_TEXT, mac, all, 0), EINVAL, "c_tap_name");
	FAILS(krun_add_net_tap(NO_CTX, (char *)"tap0", NULL, all, 0), EINVAL, "c_mac");
	FAILS(krun_add_net_tap(NO_CTX, (char *)"tap0", mac, 1 << 9, 2), EINVAL, "features");
	FAILS(krun_add_net_tap(NO_CTX, (char *)"tap0", mac, NET_FEATURE_GUEST_TSO4, 2), EINVAL, "GUEST_CSUM");
	FAILS(krun_add_net_tap(NO_CTX, (char *)"tap0", mac, NET_FEATURE_GUEST_TSO6, 2), EINVAL, "GUEST_CSUM");
	FAILS(krun_add_net_tap(NO_CTX, (char *)"tap0", mac, NET_FEATURE_GUEST_UFO, 2), EINVAL, "GUEST_CSUM");
	FAILS(krun_add_net_tap(NO_CTX, (char *)"tap0", mac, compat, NET_FLAG_VFKIT), EINVAL, "flags");
	FAILS(krun_add_net_tap(NO_CTX, (char *)"tap0", mac, compat, 2), ENOENT, "context");

	FAILS(krun_set_passt_fd(ctx, 0), ENOTSUP, "network");
	FAILS(krun_set_passt_fd(NO_CTX, -1), EINVAL, "fd");
	FAILS(krun_set_passt_fd(NO_CTX, 3), ENOENT, "context");
	FAILS(krun_set_gvproxy_path(ctx, (char *)"/x"), ENOTSUP, "network");
	FAILS(krun_set_gvproxy_path(NO_CTX, NULL), EINVAL, "c_path");
	FAILS(krun_set_gvproxy_path(NO_CTX, (char *)"/x"), ENOENT, "context");
	FAILS(krun_set_net_mac(ctx, mac), ENOTSUP, "network");
	FAILS(krun_set_net_mac(NO_CTX, NULL), EINVAL, "c_mac");
	FAILS(krun_set_net_mac(NO_CTX, mac), ENOENT, "context");
}

static void sockets(int32_t ctx)
{
	FAILS(krun_add_vsock(NO_CTX, 0x10), EINVAL, "tsi_features");
	FAILS(krun_add_vsock(NO_CTX, 0x1f), EINVAL, "tsi_features");
	FAILS(krun_add_vsock(NO_CTX, UINT32_MAX), EINVAL, "tsi_features");
	FAILS(krun_add_vsock(NO_CTX, 0xf), ENOENT, "context");
	FAILS(krun_add_vsock(ctx, 0), EEXIST, "implicit");

	CHECK(krun_add_vsock_port(ctx, 1, "/nowhere/x"), 0);
	FAILS(krun_add_vsock_port(ctx, 620, "/nowhere/x"), EINVAL, "TSI");
	FAILS(krun_add_vsock_port(ctx, 1, ""), EINVAL, "c_filepath");
	FAILS(krun_add_vsock_port(NO_CTX, 1, NULL), EINVAL, "c_filepath");
	FAILS(krun_add_vsock_port(NO_CTX, UINT32_MAX, "/x"), ENOENT, "context");
	CHECK(krun_add_vsock_port2(ctx, 1, "/nowhere/x", true), 0);
	CHECK(krun_add_vsock_port2(ctx, 1, "/", false), 0);
	FAILS(krun_add_vsock_port2(NO_CTX, 1, BAD_TEXT, true), EINVAL, "c_filepath");
	FAILS(krun_add_vsock_port2(NO_CTX, 1, "/", true), EEXIST, "exists");
	FAILS(krun_add_vsock_port2(NO_CTX, 1, "/dev/null/x", true), EINVAL, "Not a directory");
	FAILS(krun_add_vsock_port2(NO_CTX, 1, "/nowhere/x", true), ENOENT, "context");

	CHECK(krun_set_port_map(ctx, NULL), 0);
	CHECK(krun_set_port_map(ctx, EMPTY_LIST), 0);
	CHECK(krun_set_port_map(ctx, LIST("80:80")), 0);
	FAILS(krun_set_port_map(NO_CTX, LIST("80:80", BAD_TEXT)), EINVAL, "port_map[1]");
	FAILS(krun_set_port_map(NO_CTX, LIST("80")), EINVAL, "port_map");
	FAILS(krun_set_port_map(NO_CTX, LIST("1:80", "2:80")), EINVAL, "port_map");
	FAILS(krun_set_port_map(NO_CTX, LIST("80:80")), ENOENT, "context");
	FAILS(krun_set_port_map(NO_CTX, NULL), ENOENT, "context");

	CHECK(krun_set_expose_unmapped_ports(ctx, true), 0);
	CHECK(krun_set_expose_unmapped_ports(ctx, false), 0);
	FAILS(krun_set_expose_unmapped_ports(NO_CTX, true), ENOENT, "context");

	CHECK(krun_set_egress_policy(ctx, "{\"rules\":[]}"), 0);
	FAILS(krun_set_egress_policy(NO_CTX, NULL), EINVAL, "policy_json");
	FAILS(krun_set_egress_policy(NO_CTX, BAD_TEXT), EINVAL, "policy_json");
	FAILS(krun_set_egress_policy(NO_CTX, "{"), EINVAL, "not a JSON policy");
	FAILS(krun_set_egress_policy(NO_CTX, "{\"rules\":[{\"base\":\"::\",\"prefix_len\":129,\"verdict\":\"deny\"}]}"),
	      EINVAL, "rule 0: prefix_len");
	FAILS(krun_set_egress_policy(NO_CTX, "{\"rules\":[]}"), ENOENT, "context");
	FAILS(krun_update_egress_policy(ctx, NULL), EINVAL, "policy_json");
	FAILS(krun_update_egress_policy(ctx, "{\"rules\":[]}"), ENOENT, "no machine");
	uint64_t next = 0;
	char log[8];
	FAILS(krun_read_egress_log(ctx, NULL, log, sizeof(log)), EINVAL, "next");
	FAILS(krun_read_egress_log(ctx, &next, NULL, 0), EINVAL, "buffer");
	FAILS(krun_read_egress_log(ctx, &next, log, sizeof(log)), ENOENT, "no machine");

	FAILS(krun_disable_implicit_vsock(NO_CTX), ENOENT, "context");
	CHECK(krun_disable_implicit_vsock(ctx), 0);
	CHECK(krun_disable_implicit_vsock(ctx), 0);
	CHECK(krun_add_vsock(ctx, KRUN_TSI_HIJACK_INET | KRUN_TSI_HIJACK_UNIX |
				      KRUN_TSI_EXPLICIT_INET | KRUN_TSI_EXPLICIT_UNIX), 0);
	FAILS(krun_add_vsock(ctx, 0), EEXIST, "already");
	CHECK(krun_disable_implicit_vsock(ctx), 0);
	FAILS(krun_add_vsock_port(ctx, 1, "/x"), ENODEV, "no vsock");
	FAILS(krun_add_vsock_port2(ctx, 1, "/nowhere/x", true), ENODEV, "no vsock");
	FAILS(krun_set_port_map(ctx, EMPTY_LIST), ENODEV, "no vsock");
	CHECK(krun_set_port_map(ctx, NULL), 0);
}

static void graphics(int32_t ctx)
{
	CHECK(krun_set_gpu_options(ctx, UINT32_MAX), 0);
	FAILS(krun_set_gpu_options(NO_CTX, 0), ENOENT, "context");
	CHECK(krun_set_gpu_options2(ctx, VIRGLRENDERER_VENUS | VIRGLRENDERER_NO_VIRGL, 0), 0);
	CHECK(krun_set_gpu_options2(ctx, 0, UINT64_MAX), 0);
	FAILS(krun_set_gpu_options2(NO_CTX, 0, 1), ENOENT, "context");
	CHECK(krun_set_gpu_render_server_fd(ctx, 0), 0);
	FAILS(krun_set_gpu_render_server_fd(NO_CTX, -1), EINVAL, "render_server_fd");
	FAILS(krun_set_gpu_render_server_fd(NO_CTX, 1), ENOENT, "context");
	CHECK(krun_set_snd_device(ctx, true), 0);
	FAILS(krun_set_snd_device(NO_CTX, true), ENOENT, "context");

	FAILS(krun_set_display_backend(NO_CTX, NULL, 0), ENOTSUP, "display");
	FAILS(krun_add_display(NO_CTX, 0, 0), ENOTSUP, "display");
	FAILS(krun_display_set_edid(ctx, 0, NULL, 1), ENOTSUP, "display");
	FAILS(krun_display_set_dpi(ctx, 0, 0), ENOTSUP, "display");
	FAILS(krun_display_set_physical_size(ctx, 0, 0, 0), ENOTSUP, "display");
	FAILS(krun_display_set_refresh_rate(ctx, 0, 0), ENOTSUP, "display");
	FAILS(krun_add_input_device(ctx, NULL, 1, NULL, 1), ENOTSUP, "input");
	FAILS(krun_add_input_device_fd(ctx, -1), ENOTSUP, "input");
}

int main(void)
{
	int32_t ctx = krun_create_ctx();

	disks(ctx);
	networks(ctx);
	sockets(ctx);
	graphics(ctx);
	CHECK(krun_free_ctx(ctx), 0);
	return result();
}
