/* Checks a file system by rules of POSIX.1-2017 and Linux, in own words:
 *
 *     rules DIRECTORY
 *
 * Runs every rule in an empty directory of its own below DIRECTORY, first as root, then as an ordinary user. Prints a line
 * per rule and a sum; the exit status is 0 if all hold. To be run by root.
 */
#include "rules.h"

#include <grp.h>
#include <stdarg.h>

enum { HELD = 0, BROKEN = 1, WITHOUT = 77 };

void broken(const char *file, int line, const char *what, int error)
{
    const char *base = strrchr(file, '/');
    printf("  %s:%d: %s (%s)\n", base ? base + 1 : file, line, what, strerror(error));
    fflush(stdout);
    _exit(BROKEN);
}

void without(const char *what)
{
    printf("  without %s\n", what);
    fflush(stdout);
    _exit(WITHOUT);
}

void put(const char *name, const char *text)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    HOLDS(fd >= 0);
    HOLDS(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    HOLDS(close(fd) == 0);
}

int text_is(const char *name, const char *text)
{
    char buffer[4096];
    int fd = open(name, O_RDONLY);
    if (fd < 0)
        return 0;
    ssize_t size = read(fd, buffer, sizeof buffer);
    close(fd);
    return size == (ssize_t)strlen(text) && memcmp(buffer, text, size) == 0;
}

struct stat look(const char *name)
{
    struct stat st;
    HOLDS(lstat(name, &st) == 0);
    return st;
}

pid_t start(int (*child)(void))
{
    fflush(stdout);
    pid_t pid = fork();
    HOLDS(pid >= 0);
    if (pid == 0)
        _exit(child());
    return pid;
}

int end_of(pid_t pid)
{
    int status = 0;
    HOLDS(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int one(const struct rule *rule, enum who who, const char *place)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        /* A rule that waits for ever is broken too. */
        alarm(120);
        umask(022);
        HOLDS(chdir(place) == 0);
        if (who == USER) {
            HOLDS(setgroups(0, NULL) == 0);
            HOLDS(setgid(GROUP_ID) == 0 && setuid(USER_ID) == 0);
        }
        rule->check();
        _exit(HELD);
    }
    int status = end_of(pid);
    const char *word = status == HELD ? "ok" : status == WITHOUT ? "skipped" : "BROKEN";
    printf("%s %s: %s\n", word, who == ROOT ? "root" : "user", rule->name);
    return status;
}

/* What the user's rules find: things of root's in the directory above their own. */
static void prepare(void)
{
    HOLDS(mkdir("roots", 0755) == 0 && chdir("roots") == 0);
    put("secret", "secret");
    HOLDS(chmod("secret", 0600) == 0);
    put("readable", "text");
    HOLDS(mkdir("closed", 0700) == 0);
    put("closed/f", "");
    HOLDS(mkdir("unlisted", 0711) == 0);
    put("unlisted/f", "found");
    HOLDS(mkdir("sticky", 0777) == 0 && chmod("sticky", 01777) == 0);
    put("sticky/theirs", "");
    put("open-to-all", "");
    HOLDS(chmod("open-to-all", 0666) == 0);
    HOLDS(chdir("..") == 0);
}

int main(int argc, char **argv)
{
    const struct rule *const tables[] = { name_rules, data_rules, owner_rules, lock_rules };
    int sums[3] = { 0 }, number = 0;
    if (argc != 2 || getuid() != 0)
        return 2;
    umask(022);
    HOLDS(chdir(argv[1]) == 0);
    prepare();
    for (enum who who = ROOT; who <= USER; who++) {
        for (size_t table = 0; table < sizeof tables / sizeof *tables; table++) {
            for (const struct rule *rule = tables[table]; rule->name; rule++) {
                char place[32];
                if (!(rule->who & who))
                    continue;
                snprintf(place, sizeof place, "rule%d", number++);
                HOLDS(mkdir(place, 0755) == 0);
                if (who == USER)
                    HOLDS(chown(place, USER_ID, GROUP_ID) == 0);
                int status = one(rule, who, place);
                sums[status == HELD ? 0 : status == WITHOUT ? 2 : 1]++;
            }
        }
    }
    printf("%d rules hold, %d broken, %d skipped\n", sums[0], sums[1], sums[2]);
    return sums[1] != 0;
}
