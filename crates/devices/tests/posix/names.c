/* Names: making, finding, moving and removing them. */
#include "rules.h"

static void open_creates_with_mode_and_umask(void)
{
    umask(027);
    int fd = open("f", O_RDWR | O_CREAT | O_EXCL, 0777);
    HOLDS(fd >= 0);
    HOLDS(look("f").st_mode == (S_IFREG | 0750));
    HOLDS(mkdir("d", 0777) == 0 && look("d").st_mode == (S_IFDIR | 0750));
    FAILS(EEXIST, open("f", O_RDWR | O_CREAT | O_EXCL, 0777));
    HOLDS(symlink("nowhere", "l") == 0);
    FAILS(EEXIST, open("l", O_RDWR | O_CREAT | O_EXCL, 0777));
    HOLDS(open("l", O_RDWR | O_CREAT, 0600) >= 0 && look("nowhere").st_mode == (S_IFREG | 0600));
}

static void open_refuses_what_is_of_another_kind(void)
{
    put("f", "");
    HOLDS(mkdir("d", 0755) == 0 && symlink("f", "l") == 0);
    FAILS(ENOENT, open("none", O_RDONLY));
    FAILS(ENOTDIR, open("f/x", O_RDONLY));
    FAILS(ENOTDIR, open("f/", O_RDONLY));
    FAILS(ENOTDIR, open("f", O_RDONLY | O_DIRECTORY));
    FAILS(EISDIR, open("d", O_WRONLY));
    FAILS(EISDIR, open("d", O_RDONLY | O_CREAT, 0644));
    FAILS(ELOOP, open("l", O_RDONLY | O_NOFOLLOW));
    FAILS(ENOENT, open("", O_RDONLY));
    FAILS(ENOENT, open("none/x", O_WRONLY | O_CREAT, 0644));
}

static void names_have_limits(void)
{
    char name[300], path[5000] = "";
    memset(name, 'n', sizeof name);
    name[255] = '\0';
    put(name, "long");
    HOLDS(text_is(name, "long"));
    HOLDS(mkdir("d", 0755) == 0 && rename(name, "d/x") == 0 && rename("d/x", name) == 0);
    name[255] = 'n', name[256] = '\0';
    FAILS(ENAMETOOLONG, open(name, O_WRONLY | O_CREAT, 0644));
    FAILS(ENAMETOOLONG, mkdir(name, 0755));
    FAILS(ENAMETOOLONG, rename("d", name));
    while (strlen(path) < 4200)
        strcat(path, "d/../");
    FAILS(ENAMETOOLONG, open(path, O_RDONLY));
    put("\xff odd \n name", "odd");
    HOLDS(text_is("\xff odd \n name", "odd"));
}

static void directories_are_made_and_removed(void)
{
    HOLDS(mkdir("d", 0755) == 0);
    FAILS(EEXIST, mkdir("d", 0755));
    FAILS(ENOENT, mkdir("none/d", 0755));
    put("f", "");
    FAILS(EEXIST, mkdir("f", 0755));
    FAILS(ENOTDIR, mkdir("f/d", 0755));
    HOLDS(symlink("none", "l") == 0);
    FAILS(EEXIST, mkdir("l", 0755));
    nlink_t links = look("d").st_nlink;
    HOLDS(mkdir("d/e", 0755) == 0);
    HOLDS(links == 1 || look("d").st_nlink == links + 1);
    FAILS(ENOTEMPTY, rmdir("d"));
    FAILS(ENOTDIR, rmdir("f"));
    FAILS(ENOTDIR, rmdir("l"));
    FAILS(EINVAL, rmdir("d/."));
    FAILS(ENOENT, rmdir("none"));
    FAILS(EISDIR, unlink("d"));
    HOLDS(rmdir("d/e") == 0 && look("d").st_nlink == links && rmdir("d") == 0);
    FAILS(ENOENT, rmdir("d"));
}

static void a_removed_file_lives_while_it_is_open(void)
{
    struct stat st;
    put("f", "text");
    int fd = open("f", O_RDWR);
    HOLDS(unlink("f") == 0);
    FAILS(ENOENT, open("f", O_RDONLY));
    HOLDS(fstat(fd, &st) == 0 && st.st_nlink == 0 && st.st_size == 4);
    HOLDS(pwrite(fd, "more", 4, 4) == 4 && fchmod(fd, 0600) == 0 && ftruncate(fd, 6) == 0);
    char buffer[8];
    HOLDS(pread(fd, buffer, 8, 0) == 6 && memcmp(buffer, "textmo", 6) == 0);
    put("f", "another");
    HOLDS(pread(fd, buffer, 8, 0) == 6);
    int dir = (mkdir("d", 0755), open("d", O_RDONLY | O_DIRECTORY));
    HOLDS(dir >= 0 && rmdir("d") == 0);
    FAILS(ENOENT, openat(dir, "x", O_WRONLY | O_CREAT, 0644));
}

static void hard_links_are_one_file(void)
{
    put("a", "one");
    HOLDS(link("a", "b") == 0);
    HOLDS(look("a").st_ino == look("b").st_ino && look("a").st_nlink == 2);
    put("b", "two");
    HOLDS(text_is("a", "two"));
    HOLDS(chmod("b", 0600) == 0 && look("a").st_mode == (S_IFREG | 0600));
    FAILS(EEXIST, link("a", "b"));
    FAILS(ENOENT, link("none", "c"));
    HOLDS(mkdir("d", 0755) == 0);
    FAILS(EPERM, link("d", "e"));
    HOLDS(symlink("none", "l") == 0 && link("l", "l2") == 0 && S_ISLNK(look("l2").st_mode));
    HOLDS(rename("a", "b") == 0 && look("a").st_nlink == 2);
    HOLDS(unlink("a") == 0 && text_is("b", "two") && look("b").st_nlink == 1);
}

static void symbolic_links_hold_any_text(void)
{
    static char target[4096], back[4096];
    memset(target, 't', 4095);
    HOLDS(symlink(target, "long") == 0 && readlink("long", back, sizeof back) == 4095);
    HOLDS(memcmp(target, back, 4095) == 0 && look("long").st_size == 4095);
    HOLDS(symlink("none", "dangling") == 0);
    FAILS(ENOENT, open("dangling", O_RDONLY));
    FAILS(EEXIST, symlink("x", "dangling"));
    FAILS(ENOENT, symlink("", "empty"));
    HOLDS(symlink("loop2", "loop1") == 0 && symlink("loop1", "loop2") == 0);
    FAILS(ELOOP, open("loop1", O_RDONLY));
    put("f", "text");
    FAILS(EINVAL, readlink("f", back, sizeof back));
    HOLDS(mkdir("d", 0755) == 0 && symlink("../f", "d/up") == 0 && text_is("d/up", "text"));
    HOLDS(unlink("d/up") == 0 && text_is("f", "text"));
}

static void rename_replaces_and_refuses(void)
{
    put("a", "a");
    put("b", "b");
    int old = open("b", O_RDONLY);
    char byte;
    HOLDS(rename("a", "b") == 0 && text_is("b", "a"));
    HOLDS(read(old, &byte, 1) == 1 && byte == 'b');
    FAILS(ENOENT, rename("a", "c"));
    HOLDS(mkdir("d", 0755) == 0 && mkdir("e", 0755) == 0 && mkdir("d/sub", 0755) == 0);
    FAILS(EISDIR, rename("b", "d"));
    FAILS(ENOTDIR, rename("d", "b"));
    FAILS(EINVAL, rename("d", "d/sub/x"));
    HOLDS(rename("e", "d") == -1 && (errno == ENOTEMPTY || errno == EEXIST));
    HOLDS(rename("d", "e") == 0 && S_ISDIR(look("e/sub").st_mode));
    put("e/sub/f", "deep");
    int dir = open("e/sub", O_RDONLY | O_DIRECTORY);
    HOLDS(rename("e/sub", "moved") == 0 && text_is("moved/f", "deep"));
    HOLDS(faccessat(dir, "f", F_OK, 0) == 0);
    HOLDS(rename("b", "b") == 0 && text_is("b", "a"));
}

static void rename_has_flags(void)
{
    put("a", "a");
    put("b", "b");
    if (renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_NOREPLACE) == -1 && errno == EINVAL)
        without("renameat2 flags");
    FAILS(EEXIST, renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_NOREPLACE));
    HOLDS(renameat2(AT_FDCWD, "a", AT_FDCWD, "c", RENAME_NOREPLACE) == 0 && text_is("c", "a"));
    HOLDS(renameat2(AT_FDCWD, "b", AT_FDCWD, "c", RENAME_EXCHANGE) == 0);
    HOLDS(text_is("b", "a") && text_is("c", "b"));
    FAILS(ENOENT, renameat2(AT_FDCWD, "b", AT_FDCWD, "none", RENAME_EXCHANGE));
}

static void directories_list_everything_once(void)
{
    enum { COUNT = 600 };
    char seen[COUNT] = { 0 }, name[32];
    int others = 0, number;
    for (int i = 0; i < COUNT; i++) {
        snprintf(name, sizeof name, "entry%d", i);
        put(name, "");
    }
    DIR *dir = opendir(".");
    long middle = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (sscanf(entry->d_name, "entry%d", &number) == 1 && number >= 0 && number < COUNT)
            HOLDS(seen[number]++ == 0);
        else
            others++;
        if (number == 300)
            middle = telldir(dir);
    }
    HOLDS(others == 2 && memchr(seen, 0, COUNT) == NULL);
    seekdir(dir, middle);
    HOLDS(readdir(dir) != NULL);
    /* Removing what was listed hides nothing. */
    rewinddir(dir);
    int removed = 0;
    for (struct dirent *entry; (entry = readdir(dir));)
        removed += entry->d_name[0] != '.' && unlink(entry->d_name) == 0;
    HOLDS(removed == COUNT);
    closedir(dir);
}

static void paths_go_through_descriptors(void)
{
    HOLDS(mkdir("d", 0755) == 0);
    int dir = open("d", O_RDONLY | O_DIRECTORY), path = open("d", O_PATH);
    int fd = openat(dir, "f", O_RDWR | O_CREAT, 0644);
    HOLDS(fd >= 0 && faccessat(path, "f", R_OK, 0) == 0);
    HOLDS(renameat(dir, "f", AT_FDCWD, "g") == 0 && mkdirat(path, "e", 0755) == 0);
    HOLDS(unlinkat(dir, "e", AT_REMOVEDIR) == 0 && unlinkat(AT_FDCWD, "g", 0) == 0);
    HOLDS(fchdir(dir) == 0 && access("../d", F_OK) == 0);
}

const struct rule name_rules[] = {
    { "open creates with mode and umask", open_creates_with_mode_and_umask, BOTH },
    { "open refuses what is of another kind", open_refuses_what_is_of_another_kind, BOTH },
    { "names have limits", names_have_limits, BOTH },
    { "directories are made and removed", directories_are_made_and_removed, BOTH },
    { "a removed file lives while it is open", a_removed_file_lives_while_it_is_open, BOTH },
    { "hard links are one file", hard_links_are_one_file, BOTH },
    { "symbolic links hold any text", symbolic_links_hold_any_text, BOTH },
    { "rename replaces and refuses", rename_replaces_and_refuses, BOTH },
    { "rename has flags", rename_has_flags, BOTH },
    { "directories list everything once", directories_list_everything_once, BOTH },
    { "paths go through descriptors", paths_go_through_descriptors, BOTH },
    { NULL, NULL, 0 },
};
