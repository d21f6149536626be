/* libkrun 1.19's C interface, as Purlin provides it in libkrun.so.1.
 *
 * Every call returns a negative errno value if it fails, and 0 or a positive value if it does not. Arguments are
 * checked in the order given at the call, before the context is looked up; a context that does not exist, was
 * freed or was started is -ENOENT. A required pointer that is NULL, and text that is not UTF-8, is -EINVAL. Strings
 * and arrays are copied: they may be freed when the call returns. Calls may be made from any thread. Nothing but
 * krun_start_enter() starts a thread or opens a device. No call raises an exception or aborts.
 */
#ifndef _LIBKRUN_H
#define _LIBKRUN_H

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
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
 * Without this call or krun_init_log() nothing is logged. A repeat of either replaces what was set. Always 0. */
int32_t krun_set_log_level(uint32_t level);

/* Logs to target_fd: KRUN_LOG_TARGET_DEFAULT (standard error), 1, 2, or a descriptor from 3 on, which then belongs
 * to the library and stays open. KRUN_LOG_OPTION_NO_ENV: the environment is not looked at.
 * -EINVAL: target_fd, style or options is none of these. -EBADF: target_fd is not open. */
int32_t krun_init_log(int target_fd, uint32_t level, uint32_t style, uint32_t options);

/* --- Contexts ----------------------------------------------------------------------------------------------- */

/* A new configuration: 1 vCPU, 128 MiB, nothing else. Returns its id, from 0 on, never used twice. Loads
 * libkrunfw.so.5 if that is to be found; if not, krun_start_enter() says so. */
int32_t krun_create_ctx(void);

/* Forgets a configuration. */
int32_t krun_free_ctx(uint32_t ctx_id);

/* --- Machine ------------------------------------------------------------------------------------------------ */

/* Here the context is looked up first. -EINVAL: num_vcpus or ram_mib is 0. The last call counts. */
int32_t krun_set_vm_config(uint32_t ctx_id, uint8_t num_vcpus, uint32_t ram_mib);

/* --- Root directory and shares ------------------------------------------------------------------------------ */

#define KRUN_FS_ROOT_TAG "/dev/root"

/* Adds a share with the tag KRUN_FS_ROOT_TAG, which the guest mounts as its root. */
int32_t krun_set_root(uint32_t ctx_id, const char *root_path);

/* Adds a host directory that the guest can mount by its tag of at most 36 bytes (-EINVAL above). c_path NULL: a
 * share without a directory behind it. The directory must exist when the machine is started. */
int32_t krun_add_virtiofs(uint32_t ctx_id, const char *c_tag, const char *c_path);

/* shm_size, the bytes of the DAX window: accepted, and not used; the guest reads by requests. */
int32_t krun_add_virtiofs2(uint32_t ctx_id, const char *c_tag, const char *c_path, uint64_t shm_size);
int32_t krun_add_virtiofs3(uint32_t ctx_id, const char *c_tag, const char *c_path, uint64_t shm_size,
                           bool read_only);

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

/* --- Start -------------------------------------------------------------------------------------------------- */

/* Runs the machine and ends this process, by _exit(), with the exit code of the guest's workload. Returns only if
 * the machine cannot be started, and then never 0; the context is gone in any case.
 * -ENOENT: no such context, libkrunfw is missing, a shared directory is missing, no /dev/kvm. -EACCES, -ENODEV,
 * -EBUSY, -ENOMEM, ...: what KVM answered. -EINVAL: anything else. krun_get_last_error() and the log say more. */
int32_t krun_start_enter(uint32_t ctx_id);

#ifdef __cplusplus
}
#endif

#endif
