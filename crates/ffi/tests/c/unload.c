/* A library that is unloaded after a context was made. Argument: its path. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static void *use(void *path)
{
	void *library = dlopen(path, RTLD_NOW);
	int32_t (*create)(void), (*free_ctx)(uint32_t), (*set_log_level)(uint32_t);
	const char *(*last_error)(void);

	if (library == NULL)
		return dlerror();
	*(void **)&create = dlsym(library, "krun_create_ctx");
	*(void **)&free_ctx = dlsym(library, "krun_free_ctx");
	*(void **)&set_log_level = dlsym(library, "krun_set_log_level");
	*(void **)&last_error = dlsym(library, "krun_get_last_error");
	if (set_log_level(5) != 0 || create() < 0 || free_ctx(4711) != -2)
		return "a call gives something else";
	if (strstr(last_error(), "4711") == NULL)
		return "no last error";
	if (dlclose(library) != 0)
		return dlerror();
	return NULL;
}

int main(int argc, char **argv)
{
	void *problem = NULL;

	if (argc != 2)
		return 2;
	for (int i = 0; i < 3 && problem == NULL; i++) {
		pthread_t thread;

		problem = use(argv[1]);
		if (problem != NULL)
			break;
		if (pthread_create(&thread, NULL, use, argv[1]) != 0 || pthread_join(thread, &problem) != 0)
			return 3;
	}
	if (problem != NULL)
		printf("%s\n", (char *)problem);
	return problem != NULL;
}
