/* A client of the libkrun C API, the same for every library that is measured:
 *
 *     client [OPTION...] LIBRARY MIB ROOT PROGRAM [ARGUMENT...]
 *
 * boots PROGRAM with MIB of memory in the directory ROOT, and ends with its exit status.
 *
 *     -c CPUS        number of vCPUs (1)
 *     -e KEY=VALUE   an environment variable of PROGRAM, besides PATH
 *     -v TAG=DIR     a shared directory, without a DAX window
 *     -p HOST:GUEST  a TCP port of the guest on the host
 *     -s PORT=PATH   a vsock port, on which the guest reaches the host's unix socket
 *     -k KERNEL      a kernel in a file, with a serial line to stdout; then there is neither ROOT nor PROGRAM
 *     -i INITRAMFS   its initial RAM disk
 *     -w WORDS       its command line
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX = 16 };

static void *library;

static void *symbol(const char *name)
{
    void *address = dlsym(library, name);
    if (!address) {
        fprintf(stderr, "client: %s\n", dlerror());
        exit(125);
    }
    return address;
}

static uint32_t check(const char *name, int32_t result)
{
    if (result < 0) {
        fprintf(stderr, "client: %s: %d\n", name, result);
        exit(125);
    }
    return (uint32_t)result;
}

static int usage(void)
{
    fprintf(stderr, "usage: client [OPTION...] LIBRARY MIB ROOT PROGRAM [ARGUMENT...]\n");
    return 2;
}

/* Ends the part of `pair` before '=' and returns the part after it. */
static char *split(char *pair)
{
    char *equals = strchr(pair, '=');
    if (!equals)
        exit(usage());
    *equals = '\0';
    return equals + 1;
}

/* Boots a kernel in a file. */
static int boot(const char *kernel, const char *initramfs, const char *words, int cpus, const char *mib)
{
    int32_t (*create_ctx)(void) = symbol("krun_create_ctx");
    int32_t (*set_vm_config)(uint32_t, uint8_t, uint32_t) = symbol("krun_set_vm_config");
    int32_t (*set_kernel)(uint32_t, const char *, uint32_t, const char *, const char *) = symbol("krun_set_kernel");
    int32_t (*no_console)(uint32_t) = symbol("krun_disable_implicit_console");
    int32_t (*add_serial)(uint32_t, int, int) = symbol("krun_add_serial_console_default");
    int32_t (*start_enter)(uint32_t) = symbol("krun_start_enter");

    uint32_t ctx = check("krun_create_ctx", create_ctx());
    check("krun_set_vm_config", set_vm_config(ctx, (uint8_t)cpus, (uint32_t)strtoul(mib, NULL, 10)));
    check("krun_set_kernel", set_kernel(ctx, kernel, 1, initramfs, words));
    check("krun_disable_implicit_console", no_console(ctx));
    check("krun_add_serial_console_default", add_serial(ctx, -1, 1));
    check("krun_start_enter", start_enter(ctx));
    return 125; /* krun_start_enter does not return on success */
}

int main(int argc, char **argv)
{
    const char *kernel = NULL, *initramfs = NULL, *words = NULL;
    const char *environment[MAX + 1] = { "PATH=/bin:/sbin" }, *ports[MAX + 1] = { NULL };
    char *shares[MAX], *sockets[MAX];
    int cpus = 1, environment_len = 1, ports_len = 0, shares_len = 0, sockets_len = 0, option;

    while ((option = getopt(argc, argv, "+c:e:v:p:s:k:i:w:")) != -1) {
        if (environment_len == MAX || ports_len == MAX || shares_len == MAX || sockets_len == MAX)
            return usage();
        switch (option) {
        case 'c': cpus = atoi(optarg); break;
        case 'e': environment[environment_len++] = optarg; break;
        case 'v': shares[shares_len++] = optarg; break;
        case 'p': ports[ports_len++] = optarg; break;
        case 's': sockets[sockets_len++] = optarg; break;
        case 'k': kernel = optarg; break;
        case 'i': initramfs = optarg; break;
        case 'w': words = optarg; break;
        default: return usage();
        }
    }
    argv += optind;
    if (argc - optind < (kernel ? 2 : 4))
        return usage();
    library = dlopen(argv[0], RTLD_NOW);
    if (!library) {
        fprintf(stderr, "client: %s\n", dlerror());
        return 125;
    }
    if (kernel)
        return boot(kernel, initramfs, words, cpus, argv[1]);
    int32_t (*create_ctx)(void) = symbol("krun_create_ctx");
    int32_t (*set_vm_config)(uint32_t, uint8_t, uint32_t) = symbol("krun_set_vm_config");
    int32_t (*set_root)(uint32_t, const char *) = symbol("krun_set_root");
    int32_t (*add_virtiofs)(uint32_t, const char *, const char *) = symbol("krun_add_virtiofs");
    int32_t (*set_port_map)(uint32_t, const char *const[]) = symbol("krun_set_port_map");
    int32_t (*add_vsock_port)(uint32_t, uint32_t, const char *) = symbol("krun_add_vsock_port");
    int32_t (*set_exec)(uint32_t, const char *, const char *const[], const char *const[]) = symbol("krun_set_exec");
    int32_t (*start_enter)(uint32_t) = symbol("krun_start_enter");

    uint32_t ctx = check("krun_create_ctx", create_ctx());
    check("krun_set_vm_config", set_vm_config(ctx, (uint8_t)cpus, (uint32_t)strtoul(argv[1], NULL, 10)));
    check("krun_set_root", set_root(ctx, argv[2]));
    for (int i = 0; i < shares_len; i++) {
        const char *dir = split(shares[i]);
        check("krun_add_virtiofs", add_virtiofs(ctx, shares[i], dir));
    }
    if (ports_len)
        check("krun_set_port_map", set_port_map(ctx, ports));
    for (int i = 0; i < sockets_len; i++) {
        const char *path = split(sockets[i]);
        check("krun_add_vsock_port", add_vsock_port(ctx, (uint32_t)strtoul(sockets[i], NULL, 10), path));
    }
    check("krun_set_exec", set_exec(ctx, argv[3], (const char *const *)argv + 4, environment));
    check("krun_start_enter", start_enter(ctx));
    return 125; /* krun_start_enter does not return on success */
}
