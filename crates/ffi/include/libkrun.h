/* libkrun 1.19's C interface, as Purlin provides it in libkrun.so.1.
 *
 * Every call returns a negative errno value if it fails, and 0 or a positive value if it does not. Arguments are
 * checked in the order given at the call, before the context is looked up; a context that does not exist, was
 * freed or was started is -ENOENT. A required pointer that is NULL, and text that is not UTF-8, is -EINVAL. Strings
 * and arrays are copied: they may be freed when the call returns. Calls may be made from any thread. Nothing but
 * krun_start_enter() starts a thread, keeps a device open or changes anything of the process. No call raises an exception or aborts.
 */
#ifndef _LIBKRUN_H
#define _LIBKRUN_H

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <unistd.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --- Errors and logging ------------------------------------------------------------------------------------- */

/* Extension. Text of this thread's last failed call, never NULL, empty if none failed. It stays until the next
 * call that fails on this thread. */
const char *krun_get_last_error(void);

#define KRUN_LOG_TARGET_DEFAULT -1

#define KRUN_LOG_LEVEL_OFF 0
#define KRUN_LOG_LEVEL_ERROR 1
#define KRUN_LOG_LEVEL_WARN 2
#define KRUN_LOG_LEVEL_INFO 3
#define KRUN_LOG_LEVEL_DEBUG 4
#define KRUN_LOG_LEVEL_TRACE 5

#define KRUN_LOG_STYLE_AUTO 0
#define KRUN_LOG_STYLE_ALWAYS 1
#define KRUN_LOG_STYLE_NEVER 2

#define KRUN_LOG_OPTION_NO_ENV 1

/* Logs to standard error; levels above 5 are 5. RUST_LOG and RUST_LOG_STYLE in the environment take precedence.
 * Without this call or krun_init_log() nothing is logged. A repeat of either replaces what was set. A log is never waited
 * for: records that are not read in time are left out, and a line says how many. Always 0. */
int32_t krun_set_log_level(uint32_t level);

/* Logs to target_fd: KRUN_LOG_TARGET_DEFAULT (standard error), 1, 2, or a descriptor from 3 on, which then belongs
 * to the library and stays open. KRUN_LOG_OPTION_NO_ENV: the environment is not looked at.
 * -EINVAL: target_fd, style or options is none of these. -EBADF: target_fd is not open. */
int32_t krun_init_log(int target_fd, uint32_t level, uint32_t style, uint32_t options);

/* --- Contexts ----------------------------------------------------------------------------------------------- */

/* A new configuration: 1 vCPU, 128 MiB, nothing else. Returns its id, from 0 on, never used twice. Loads
 * libkrunfw.so.5 if that is to be found; if not, krun_start_enter() says so. */
int32_t krun_create_ctx(void);

/* Forgets a configuration. Descriptors it was given stay open. */
int32_t krun_free_ctx(uint32_t ctx_id);

/* --- What this library has ---------------------------------------------------------------------------------- */

#define KRUN_FEATURE_NET 0
#define KRUN_FEATURE_BLK 1
#define KRUN_FEATURE_GPU 2
#define KRUN_FEATURE_SND 3
#define KRUN_FEATURE_INPUT 4
#define KRUN_FEATURE_EFI 5
#define KRUN_FEATURE_TEE 6
#define KRUN_FEATURE_AMD_SEV 7
#define KRUN_FEATURE_INTEL_TDX 8
#define KRUN_FEATURE_AWS_NITRO 9
#define KRUN_FEATURE_VIRGL_RESOURCE_MAP2 10
#define KRUN_FEATURE_INIT_BLOB 11

/* 1: built in. 0: not. -EINVAL: no such feature. The host is not looked at. Calls for a device that is not built in
 * check their arguments and the context, and answer -ENOTSUP. */
int32_t krun_has_feature(uint64_t feature);

/* --- Machine ------------------------------------------------------------------------------------------------ */

/* Here the context is looked up first. -EINVAL: num_vcpus or ram_mib is 0. The last call counts. */
int32_t krun_set_vm_config(uint32_t ctx_id, uint8_t num_vcpus, uint32_t ram_mib);

/* The most vCPUs this host's KVM allows. -EINVAL: KVM cannot be opened. */
int32_t krun_get_max_vcpus(void);

/* Whether the guest sees VMX or SVM, if the host has it. Off by default. */
int32_t krun_set_nested_virt(uint32_t ctx_id, bool enabled);

/* 1 if the host's KVM module allows nested guests, else 0. */
int32_t krun_check_nested_virt(void);

/* Where the IOAPIC is emulated. Stored; the kernel's is used in any case, which a guest cannot tell apart. */
int32_t krun_split_irqchip(uint32_t ctx_id, bool enable);

/* OEM strings of the guest's SMBIOS table, which a machine without any does not have; the last call counts, an empty list
 * clears. At most 255 and some 32 KiB, none empty: -EINVAL at start. libkrunfw's kernel does not read the table. */
int32_t krun_set_smbios_oem_strings(uint32_t ctx_id, const char *const oem_strings[]);

/* Extension. What the guest takes its processors for: "T2" (Haswell) or "C3" (Ivy Bridge), so that a guest saved on one
 * Intel host may go on on another, or "host", which is the default and what NULL means. It changes what CPUID says, not
 * what the processor executes. -EINVAL: the name is not known. -ENOTSUP at start: the host's processor is not Intel's. */
int32_t krun_set_cpu_template(uint32_t ctx_id, const char *name);

/* The user and group to become in krun_start_enter(), before anything but libkrunfw and disks is opened. */
int32_t krun_setuid(uint32_t ctx_id, uid_t uid);
int32_t krun_setgid(uint32_t ctx_id, gid_t gid);

/* --- Root directory and shares ------------------------------------------------------------------------------ */

#define KRUN_FS_ROOT_TAG "/dev/root"

/* Adds a share with the tag KRUN_FS_ROOT_TAG, which the guest mounts as its root. */
int32_t krun_set_root(uint32_t ctx_id, const char *root_path);

/* Adds a host directory that the guest can mount by its tag of at most 36 bytes (-EINVAL above). c_path NULL: a
 * share without a directory behind it. The directory must exist when the machine is started. */
int32_t krun_add_virtiofs(uint32_t ctx_id, const char *c_tag, const char *c_path);

/* shm_size: the bytes of the DAX window, rounded up to 2 MiB, for a guest that mounts with -o dax; 0: none. The window costs
 * 16 KiB of the guest's memory per MiB. */
int32_t krun_add_virtiofs2(uint32_t ctx_id, const char *c_tag, const char *c_path, uint64_t shm_size);
int32_t krun_add_virtiofs3(uint32_t ctx_id, const char *c_tag, const char *c_path, uint64_t shm_size,
                           bool read_only);

/* COMPLETE: names and attributes are cached for 5 s. SIMPLIFIED: attributes are not cached. */
#define KRUN_SEMANTICS_LINUX_COMPLETE 0
#define KRUN_SEMANTICS_LINUX_SIMPLIFIED 1

/* -EINVAL: semantics is neither. */
int32_t krun_add_virtiofs4(uint32_t ctx_id, const char *c_tag, const char *c_path, uint64_t shm_size,
                           bool read_only, uint32_t semantics);

/* Adds a read-only file that exists only in memory to the first share of this tag. It hides a host file of the same
 * name and is found by name, but not listed. Parents must have been added as directories. one_shot: the name
 * vanishes when it was looked up once. The data is copied. A path that is added again replaces the earlier entry.
 * -EINVAL: the path does not end in a name; data is NULL and data_len is not 0. -ENOENT: no such context, share or
 * parent. -ENOTDIR: a parent is a file. -ENOMEM: no memory for the copy. */
int32_t krun_fs_add_overlay_file(uint32_t ctx_id, const char *fs_tag, const char *path, const uint8_t *data,
                                 size_t data_len, uint32_t mode, bool one_shot);

/* Adds an empty directory likewise. */
int32_t krun_fs_add_overlay_dir(uint32_t ctx_id, const char *fs_tag, const char *path, uint32_t mode);

/* Does nothing: always -EINVAL. */
int32_t krun_set_mapped_volumes(uint32_t ctx_id, const char *const mapped_volumes[]);

/* Roots added from here on do not get /init.krun, this library's PID 1; those added before keep it. */
int32_t krun_disable_implicit_init(uint32_t ctx_id);

/* The bytes of that program, which stay where they are. -EINVAL: a pointer is NULL. */
int32_t krun_get_default_init(const uint8_t **data_out, size_t *len_out);

/* --- Kernels ------------------------------------------------------------------------------------------------ */

#define KRUN_KERNEL_FORMAT_RAW 0
#define KRUN_KERNEL_FORMAT_ELF 1
#define KRUN_KERNEL_FORMAT_PE_GZ 2
#define KRUN_KERNEL_FORMAT_IMAGE_BZ2 3
#define KRUN_KERNEL_FORMAT_IMAGE_GZ 4
#define KRUN_KERNEL_FORMAT_IMAGE_ZSTD 5

/* A kernel in a file, in place of libkrunfw's: an ELF image, a bzImage, or a file in which an ELF image lies compressed
 * (gzip, bzip2, xz, LZ4, zstd). What it is, its content says; kernel_format only tells RAW from the rest. It is entered by
 * Linux' 64-bit boot protocol, or by PVH if it has no other entry. It gets an MP table and ACPI tables, and its devices
 * are announced in the way it knows: by ACPI, or by words on the command line. initramfs and cmdline may be NULL; cmdline
 * replaces the default words, and those for devices and the workload are appended. -EINVAL: the format is not known;
 * initramfs does not exist; with RAW, the kernel cannot be opened or is empty. The file is read at start (-EINVAL if that
 * fails). RAW kernels cannot be started: the file says neither where it goes nor where it begins (-EINVAL at
 * start; see krun_set_kernel_raw). */
int32_t krun_set_kernel(uint32_t ctx_id, const char *kernel_path, uint32_t kernel_format, const char *initramfs,
                        const char *cmdline);

/* Extension. A kernel in a file of flat bytes, which go to load_addr, a page at or above 1 MiB, and begin at entry_addr, in
 * 64-bit mode as above. It gets both an MP table and ACPI tables, and its devices are announced in both ways. The last
 * call of this and krun_set_kernel() counts. Files and addresses are looked at at start (-EINVAL). */
int32_t krun_set_kernel_raw(uint32_t ctx_id, const char *kernel_path, uint64_t load_addr, uint64_t entry_addr,
                            const char *initramfs, const char *cmdline);

/* Extension. A library like libkrunfw in a file of any name, in place of libkrunfw: an absolute path, else -EINVAL. It is
 * opened at start (-EINVAL if it cannot be). A kernel of krun_set_kernel() comes before it. */
int32_t krun_set_kernel_path(uint32_t ctx_id, const char *path);

/* Firmware of at most 16 MiB, started if no kernel was set: a ROM that ends at 4 GiB, its last 128 KiB also below 1 MiB. It has
 * a serial line at 0x3f8 even if none was added, which leads to the file of krun_set_console_output(), or nowhere. Read at
 * start: -EINVAL there if that fails. */
int32_t krun_set_firmware(uint32_t ctx_id, const char *firmware_path);

/* --- Disks: not built in ------------------------------------------------------------------------------------ */

#define KRUN_DISK_FORMAT_RAW 0
#define KRUN_DISK_FORMAT_QCOW2 1
#define KRUN_DISK_FORMAT_VMDK 2

#define KRUN_SYNC_NONE 0
#define KRUN_SYNC_RELAXED 1
#define KRUN_SYNC_FULL 2

int32_t krun_add_disk(uint32_t ctx_id, const char *block_id, const char *disk_path, bool read_only);
int32_t krun_add_disk2(uint32_t ctx_id, const char *block_id, const char *disk_path, uint32_t disk_format,
                       bool read_only);
/* -EINVAL: disk_format or sync_mode is not known. */
int32_t krun_add_disk3(uint32_t ctx_id, const char *block_id, const char *disk_path, uint32_t disk_format,
                       bool read_only, bool direct_io, uint32_t sync_mode);
int32_t krun_set_root_disk(uint32_t ctx_id, const char *disk_path);
int32_t krun_set_data_disk(uint32_t ctx_id, const char *disk_path);

/* -EINVAL: there is a share tagged KRUN_FS_ROOT_TAG, or no disk. */
int32_t krun_set_root_disk_remount(uint32_t ctx_id, const char *device, const char *fstype, const char *options);

/* --- Network devices: not built in -------------------------------------------------------------------------- */

#define NET_FEATURE_CSUM 1 << 0
#define NET_FEATURE_GUEST_CSUM 1 << 1
#define NET_FEATURE_GUEST_TSO4 1 << 7
#define NET_FEATURE_GUEST_TSO6 1 << 8
#define NET_FEATURE_GUEST_UFO 1 << 10
#define NET_FEATURE_HOST_TSO4 1 << 11
#define NET_FEATURE_HOST_TSO6 1 << 12
#define NET_FEATURE_HOST_UFO 1 << 14

#define COMPAT_NET_FEATURES                                                                                          \
	NET_FEATURE_CSUM | NET_FEATURE_GUEST_CSUM | NET_FEATURE_GUEST_TSO4 | NET_FEATURE_GUEST_UFO |                 \
		NET_FEATURE_HOST_TSO4 | NET_FEATURE_HOST_UFO

#define NET_FLAG_VFKIT (1 << 0)
#define NET_FLAG_DHCP_CLIENT (1 << 1)

/* Exactly one of c_path and fd (negative: none). c_mac: six bytes. -EINVAL otherwise, and for features or flags other
 * than those above; NET_FLAG_VFKIT is for datagrams only. */
int32_t krun_add_net_unixstream(uint32_t ctx_id, const char *c_path, int fd, uint8_t *const c_mac, uint32_t features,
                                uint32_t flags);
int32_t krun_add_net_unixgram(uint32_t ctx_id, const char *c_path, int fd, uint8_t *const c_mac, uint32_t features,
                              uint32_t flags);
/* -EINVAL as well: a name of more than 15 bytes, or GUEST_TSO4, GUEST_TSO6 or GUEST_UFO without GUEST_CSUM. */
int32_t krun_add_net_tap(uint32_t ctx_id, char *c_tap_name, uint8_t *const c_mac, uint32_t features, uint32_t flags);
int32_t krun_set_passt_fd(uint32_t ctx_id, int fd);
int32_t krun_set_gvproxy_path(uint32_t ctx_id, char *c_path);
int32_t krun_set_net_mac(uint32_t ctx_id, uint8_t *const c_mac);

/* --- Sockets between guest and host, and the guest's network through them (TSI) ----------------------------- */

#define KRUN_TSI_HIJACK_INET (1 << 0)
#define KRUN_TSI_HIJACK_UNIX (1 << 1)
/* Extensions: programs of the guest that open an AF_TSI socket (family 46 to 48) get one, without the kernel taking over
 * the sockets of all others. */
#define KRUN_TSI_EXPLICIT_INET (1 << 2)
#define KRUN_TSI_EXPLICIT_UNIX (1 << 3)

/* By default there is a vsock device with KRUN_TSI_HIJACK_INET. After this call there is none, also not one that was
 * added before. */
int32_t krun_disable_implicit_vsock(uint32_t ctx_id);

/* A vsock device with these TSI features, or none of them, in place of the implicit one. -EINVAL: unknown features.
 * -EEXIST: krun_disable_implicit_vsock() was not called before, or this call was. */
int32_t krun_add_vsock(uint32_t ctx_id, uint32_t tsi_features);

/* Joins a vsock port with a unix socket of the host, of at most 107 bytes (-EINVAL): the guest connects to the port of
 * CID 2, and the library to the path; or, with listen, the library listens on the path and connects to that port of the
 * guest. One per port, the last counts. -ENODEV: after krun_disable_implicit_vsock(). -EINVAL: the port is one that TSI
 * uses. listen: -EEXIST if the path exists, -EINVAL if that cannot be told. */
int32_t krun_add_vsock_port(uint32_t ctx_id, uint32_t port, const char *c_filepath);
int32_t krun_add_vsock_port2(uint32_t ctx_id, uint32_t port, const char *c_filepath, bool listen);

/* The ports the guest can listen on by TSI, as "HOST:GUEST" each, no port twice on a side (-EINVAL): others fail in
 * the guest. NULL, or no call: all, each as itself. An empty list: none. -ENODEV: as above. */
int32_t krun_set_port_map(uint32_t ctx_id, const char *const port_map[]);

/* Extension. Ports that the port map does not name are exposed as themselves, as libkrun 1.19.7 does it. */
int32_t krun_set_expose_unmapped_ports(uint32_t ctx_id, bool enable);

/* Extension. Where TCP and UDP of the guest may go through the vsock device: a policy in JSON, in which the first rule
 * that matches decides and everything else is denied. Without one, everything is allowed. The fields, and more that are
 * optional, are in purlin-egress' README:
 *   {"rules":[{"prefix_len":8,"base":"10.0.0.0","port_range":[443,443],"verdict":"allow"},
 *             {"prefix_len":0,"base":"0.0.0.0","verdict":"redirect","redirect_target":"127.0.0.1:15001"}]}
 * What is denied gets ECONNREFUSED, and datagrams vanish. A redirected connection begins with 12 bytes, a redirected
 * flow of datagrams with such a datagram: magic, original address, original port, two zero bytes, all big-endian. The
 * magic is 0x50524c4e unless "redirect_header":{"magic":N} says otherwise.
 * -EINVAL: the policy is none; krun_get_last_error() names the rule and the field. */
int32_t krun_set_egress_policy(uint32_t ctx_id, const char *policy_json);

/* Extension. The same for a machine that runs, from another thread than that in krun_start_enter(): takes effect as a
 * whole, and resets open connections that the new policy does not let out, or not to the same place. -ENOENT: no such
 * machine runs. -ENODEV: it has no vsock device. */
int32_t krun_update_egress_policy(uint32_t ctx_id, const char *policy_json);

/* Extension. What the policy of a running machine decided: one line of JSON for each decision, from number *next on,
 * with the fields sequence, at_ms (since the machine was made), policy (0, one more for every update), protocol,
 * destination, verdict, reason, and rule, target, host where there is one. Whole lines only, without a NUL; *next is the
 * number to go on with. The last 1024 are kept. Returns the bytes written, 0 if there is nothing new. -ENOENT, -ENODEV:
 * as above. -ENOSPC: not even one line fits. */
int32_t krun_read_egress_log(uint32_t ctx_id, uint64_t *next, char *buffer, size_t size);

/* --- Consoles ----------------------------------------------------------------------------------------------- */

/* A context has an implicit console on descriptors 0, 1 and 2. A stream that is a terminal is the guest's console
 * (/dev/hvcN), in raw mode while the machine runs; any other is a port of its own that the guest's init gives to the
 * workload, and what the kernel prints then goes to the log. A new size of a terminal is passed on. SIGINT is passed
 * on as Ctrl-C if input is not a terminal. Descriptors are copied, and their flags not changed. */

/* No implicit console. */
int32_t krun_disable_implicit_console(uint32_t ctx_id);

/* All output of the implicit console, the workload's included, goes to this file, which is created or truncated at
 * start; there is no input then. With krun_set_kernel() and without a serial line, what the kernel prints before it has
 * a console comes there too, through the first serial line (earlycon). -EINVAL: called before. */
int32_t krun_set_console_output(uint32_t ctx_id, const char *c_filepath);

/* Replaces the first console= of the kernel's command line and those like it, or adds one. */
int32_t krun_set_kernel_console(uint32_t ctx_id, const char *console_id);

/* Adds a console with the rules above on other descriptors, negative ones being absent. At start, one that is not
 * open is -EINVAL. */
int32_t krun_add_virtio_console_default(uint32_t ctx_id, int input_fd, int output_fd, int err_fd);

/* Adds a console for the calls below and returns its id. Without a port, start is -EINVAL. */
int32_t krun_add_virtio_console_multiport(uint32_t ctx_id);

/* Adds a terminal (name NULL: ""). -ENOTTY: it is none. -EINVAL: no such console. */
int32_t krun_add_console_port_tty(uint32_t ctx_id, uint32_t console_id, const char *name, int tty_fd);

/* Adds a stream of bytes; a negative descriptor is an absent direction. */
int32_t krun_add_console_port_inout(uint32_t ctx_id, uint32_t console_id, const char *name, int input_fd,
                                    int output_fd);

/* Adds a serial line, /dev/ttyS0 first, negative descriptors being absent. They stay the caller's. Input that is a
 * terminal is in raw mode while the machine runs. Lines after the fourth are not there. The kernel prints on it if
 * krun_set_kernel_console() names it. */
int32_t krun_add_serial_console_default(uint32_t ctx_id, int input_fd, int output_fd);

/* --- GPU, display, input, sound: never built in ------------------------------------------------------------- */

#define VIRGLRENDERER_USE_EGL 1 << 0
#define VIRGLRENDERER_THREAD_SYNC 1 << 1
#define VIRGLRENDERER_USE_GLX 1 << 2
#define VIRGLRENDERER_USE_SURFACELESS 1 << 3
#define VIRGLRENDERER_USE_GLES 1 << 4
#define VIRGLRENDERER_USE_EXTERNAL_BLOB 1 << 5
#define VIRGLRENDERER_VENUS 1 << 6
#define VIRGLRENDERER_NO_VIRGL 1 << 7
#define VIRGLRENDERER_USE_ASYNC_FENCE_CB 1 << 8
#define VIRGLRENDERER_RENDER_SERVER 1 << 9
#define VIRGLRENDERER_DRM 1 << 10

/* Accepted without effect, for clients that ask in any case. -EINVAL: render_server_fd is negative. */
int32_t krun_set_gpu_options(uint32_t ctx_id, uint32_t virgl_flags);
int32_t krun_set_gpu_options2(uint32_t ctx_id, uint32_t virgl_flags, uint64_t shm_size);
int32_t krun_set_gpu_render_server_fd(uint32_t ctx_id, int32_t render_server_fd);
int32_t krun_set_snd_device(uint32_t ctx_id, bool enable);

#define KRUN_MAX_DISPLAYS 16

/* -ENOTSUP, whatever the arguments are. */
int32_t krun_set_display_backend(uint32_t ctx_id, const void *display_backend, size_t backend_size);
int32_t krun_add_display(uint32_t ctx_id, uint32_t width, uint32_t height);
int32_t krun_display_set_edid(uint32_t ctx_id, uint32_t display_id, const uint8_t *edid_blob, size_t blob_size);
int32_t krun_display_set_dpi(uint32_t ctx_id, uint32_t display_id, uint32_t dpi);
int32_t krun_display_set_physical_size(uint32_t ctx_id, uint32_t display_id, uint16_t width_mm, uint16_t height_mm);
int32_t krun_display_set_refresh_rate(uint32_t ctx_id, uint32_t display_id, uint32_t refresh_rate);
int krun_add_input_device(uint32_t ctx_id, const void *config_backend, size_t config_backend_size,
                          const void *events_backend, size_t events_backend_size);
int krun_add_input_device_fd(uint32_t ctx_id, int input_fd);

/* --- What runs in the guest --------------------------------------------------------------------------------- */

/* exec_path: path in the guest. argv: the arguments after argument 0, which is exec_path; NULL: none. envp: the
 * environment, NULL: this process's as it is now. Arrays end with NULL; entries after the 4096th are dropped. */
int32_t krun_set_exec(uint32_t ctx_id, const char *exec_path, const char *const argv[], const char *const envp[]);

/* The environment alone. Of this call and krun_set_exec() the last counts. */
int32_t krun_set_env(uint32_t ctx_id, const char *const envp[]);

/* The working directory in the guest. */
int32_t krun_set_workdir(uint32_t ctx_id, const char *workdir_path);

/* Resource limits in the guest: "<number>=<soft>:<hard>", the number as Linux counts (7 is RLIMIT_NOFILE). */
int32_t krun_set_rlimits(uint32_t ctx_id, const char *const rlimits[]);

/* --- Start and end ------------------------------------------------------------------------------------------ */

/* Runs the machine and ends this process, by _exit(), with the exit code of the guest's workload. Returns only if
 * the machine cannot be started, and then never 0; the context is gone in any case.
 * -ENOENT: no such context, libkrunfw is missing, a shared directory is missing, no /dev/kvm. -EACCES, -ENODEV,
 * -EBUSY, -ENOMEM, ...: what KVM answered. -EINVAL: anything else. krun_get_last_error() and the log say more.
 * The log also says how the guest ended; without one, an exit code that stands for a missing status (125), a workload that was
 * not started (125 to 127), or a processor that could not go on, is explained by a line on standard error, if that takes it at once. */
int32_t krun_start_enter(uint32_t ctx_id);

/* An event descriptor, to be taken before krun_start_enter(): writing to it (8 bytes, a number that is not 0) asks the
 * guest to end. Its init sends SIGTERM to the workload and, 10 s later, SIGKILL; one with an init of its own gets
 * Ctrl-Alt-Del, if its kernel has a driver for the keyboard controller. 15 s later the guest is killed (exit code 137). Every call returns the same descriptor; it is closed with the context. */
int32_t krun_get_shutdown_eventfd(uint32_t ctx_id);

/* Extension. For other threads while krun_start_enter() runs the machine of this context: presses Ctrl-Alt-Del. A guest
 * whose kernel has a driver for the keyboard controller (i8042) gets the keys; in any other this library's init, if it
 * is there, ends the workload: SIGTERM and, 90 s later, SIGKILL. Never kills the guest. -ENOENT: no such machine. */
int32_t krun_send_ctrl_alt_del(uint32_t ctx_id);

/* Extension. Makes a unix socket at start, of at most 107 bytes (-EINVAL), through which other processes of this user
 * can ask for the machine's status and counters, stop, kill, pause and resume it: lines of JSON, as the documentation of
 * the Rust module purlin::control says. Its file must not exist (-EADDRINUSE at start) and is removed when the machine
 * ends. The last call counts. */
int32_t krun_set_control_socket(uint32_t ctx_id, const char *c_filepath);

/* Extension. A guest may end without having told an exit code: a kernel panic, an init that is not this library's.
 * With enable that gives exit code 125, without 0, as with libkrun (1 if a processor could not go on). If this is not called:
 * 125 if the root has this library's init, which tells a code for every workload that ran, else 0. */
int32_t krun_set_report_guest_failure(uint32_t ctx_id, bool enable);

#ifdef __cplusplus
}
#endif

#endif
