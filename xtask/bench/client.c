/* A client of the libkrun C API, the same for every library that is measured:
 *
 *     client LIBRARY MIB ROOT PROGRAM [ARGUMENT...]
 *
 * boots PROGRAM with one vCPU and MIB of memory in the directory ROOT, and ends with its exit status.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

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

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: client LIBRARY MIB ROOT PROGRAM [ARGUMENT...]\n");
        return 2;
    }
    library = dlopen(argv[1], RTLD_NOW);
    if (!library) {
        fprintf(stderr, "client: %s\n", dlerror());
        return 125;
    }
    int32_t (*create_ctx)(void) = symbol("krun_create_ctx");
    int32_t (*set_vm_config)(uint32_t, uint8_t, uint32_t) = symbol("krun_set_vm_config");
    int32_t (*set_root)(uint32_t, const char *) = symbol("krun_set_root");
    int32_t (*set_exec)(uint32_t, const char *, char *const[], const char *const[]) = symbol("krun_set_exec");
    int32_t (*start_enter)(uint32_t) = symbol("krun_start_enter");

    const char *const environment[] = { "PATH=/bin:/sbin", NULL };
    uint32_t ctx = check("krun_create_ctx", create_ctx());
    check("krun_set_vm_config", set_vm_config(ctx, 1, (uint32_t)strtoul(argv[2], NULL, 10)));
    check("krun_set_root", set_root(ctx, argv[3]));
    check("krun_set_exec", set_exec(ctx, argv[4], argv + 5, environment));
    check("krun_start_enter", start_enter(ctx));
    return 125; /* krun_start_enter does not return on success */
}
