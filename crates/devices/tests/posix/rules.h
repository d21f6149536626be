/* What a rule is made of. */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

enum who { ROOT = 1, USER = 2, BOTH = 3 };
enum { USER_ID = 1234, GROUP_ID = 5678 };

struct rule {
    const char *name;
    void (*check)(void);
    enum who who;
};

extern const struct rule name_rules[], data_rules[], owner_rules[], lock_rules[];

/* Ends a rule: it does not hold, or the file system below does not have what it is about. */
void broken(const char *file, int line, const char *what, int error);
void without(const char *what);

#define HOLDS(condition) \
    do { \
        errno = 0; \
        if (!(condition)) \
            broken(__FILE__, __LINE__, #condition, errno); \
    } while (0)
#define FAILS(error, call) \
    do { \
        errno = 0; \
        long result_ = (long)(call); \
        if (result_ != -1 || errno != (error)) \
            broken(__FILE__, __LINE__, #call " fails with " #error, errno); \
    } while (0)

/* A file of this text; `text_is` compares. */
void put(const char *name, const char *text);
int text_is(const char *name, const char *text);
struct stat look(const char *name);
/* Forks; the child runs `child` and its exit status is returned by `end_of`. */
pid_t start(int (*child)(void));
int end_of(pid_t pid);
