/* container FIRMWARE ROOT: an OCI runtime's handler. Finds everything by dlsym, makes the context on the host, and starts the
 * machine in a child, inside of new namespaces and of the container's root. The workload is in /.krun_config.json there. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(what)                                                                                                  \
	do {                                                                                                         \
		if (!(what)) {                                                                                       \
			fprintf(stderr, "%s: %s\n", #what, strerror(errno));                                         \
			_exit(100);                                                                                  \
		}                                                                                                    \
	} while (0)

static void *library;

static void find(const char *name, void *function)
{
	*(void **)function = dlsym(library, name);
	if (*(void **)function == NULL) {
		fprintf(stderr, "%s\n", dlerror());
		_exit(100);
	}
}

static int container(int32_t ctx, const char *root)
{
	int32_t (*set_root)(uint32_t, const char *), (*set_vm_config)(uint32_t, uint8_t, uint32_t);
	int32_t (*start_enter)(uint32_t), (*set_gpu_options)(uint32_t, uint32_t);

	find("krun_set_root", &set_root);
	find("krun_set_vm_config", &set_vm_config);
	find("krun_set_gpu_options", &set_gpu_options);
	find("krun_start_enter", &start_enter);
	CHECK(chroot(root) == 0 && chdir("/") == 0);
	CHECK(mount("proc", "/proc", "proc", 0, NULL) == 0);
	CHECK(getpid() == 1);
	CHECK(set_root((uint32_t)ctx, "/") == 0);
	CHECK(set_vm_config((uint32_t)ctx, 1, 256) == 0);
	CHECK(set_gpu_options((uint32_t)ctx, 0) == 0);
	return -start_enter((uint32_t)ctx);
}

int main(int argc, char **argv)
{
	int32_t (*create_ctx)(void), (*set_log_level)(uint32_t);
	char device[4096];
	int32_t ctx;
	pid_t child;
	int status;

	CHECK(argc == 3);
	/* Its variants for confidential machines are not installed. */
	CHECK(dlopen("libkrun-sev.so.1", RTLD_NOW) == NULL);
	/* Found again by its name. */
	CHECK(dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL) != NULL);
	library = dlopen("libkrun.so.1", RTLD_NOW);
	CHECK(library != NULL);
	find("krun_set_log_level", &set_log_level);
	find("krun_create_ctx", &create_ctx);
	CHECK(set_log_level(1) == 0);
	ctx = create_ctx();
	CHECK(ctx == 0);

	snprintf(device, sizeof(device), "%s/dev/kvm", argv[2]);
	CHECK(mknod(device, S_IFCHR | 0666, makedev(10, 232)) == 0);
	CHECK(unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC) == 0);
	CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	child = fork();
	if (child == 0)
		_exit(container(ctx, argv[2]));
	CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status));
	return WEXITSTATUS(status);
}
