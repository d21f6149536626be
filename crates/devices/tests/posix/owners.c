/* Owners, modes, and what they allow. A user's rules run beside things of root's, in ../roots. */
#include "rules.h"

#include <sys/sysmacros.h>

static void modes_are_kept(void)
{
    put("f", "");
    for (int mode = 0; mode <= 0777; mode += 0111)
        HOLDS(chmod("f", mode) == 0 && (look("f").st_mode & 07777) == (mode_t)mode);
    HOLDS(mkdir("d", 0755) == 0 && chmod("d", 01755) == 0 && (look("d").st_mode & 07777) == 01755);
    int fd = open("d", O_RDONLY);
    HOLDS(fchmod(fd, 0700) == 0 && (look("d").st_mode & 07777) == 0700);
    FAILS(ENOENT, chmod("none", 0644));
    HOLDS(symlink("f", "l") == 0 && chmod("l", 0600) == 0 && (look("f").st_mode & 07777) == 0600);
}

static void new_things_belong_to_who_makes_them(void)
{
    put("f", "");
    HOLDS(mkdir("d", 0755) == 0 && symlink("f", "l") == 0 && mkfifo("p", 0644) == 0);
    for (const char **name = (const char *[]){ "f", "d", "l", "p", NULL }; *name; name++)
        HOLDS(look(*name).st_uid == getuid() && look(*name).st_gid == getgid());
}

static void root_gives_away(void)
{
    put("f", "");
    HOLDS(chmod("f", 06755) == 0 && chown("f", 77, 88) == 0);
    struct stat st = look("f");
    HOLDS(st.st_uid == 77 && st.st_gid == 88 && (st.st_mode & 07777) == 0755);
    HOLDS(chown("f", -1, 99) == 0 && look("f").st_uid == 77 && look("f").st_gid == 99);
    HOLDS(symlink("f", "l") == 0 && lchown("l", 5, 6) == 0 && look("l").st_uid == 5 && look("f").st_uid == 77);
    HOLDS(mkdir("d", 0755) == 0 && chown("d", 77, 88) == 0 && chmod("d", 02775) == 0);
    put("d/f", "");
    HOLDS(mkdir("d/e", 0755) == 0);
    HOLDS(look("d/f").st_gid == 88 && look("d/e").st_gid == 88 && (look("d/e").st_mode & S_ISGID));
}

static void root_passes_by_modes(void)
{
    put("f", "text");
    HOLDS(mkdir("d", 0) == 0 && chmod("f", 0) == 0);
    HOLDS(text_is("f", "text") && open("d/f", O_WRONLY | O_CREAT, 0644) >= 0);
    FAILS(EACCES, access("f", X_OK));
}

static void device_nodes_are_the_guests(void)
{
    if (mknod("null", S_IFCHR | 0666, makedev(1, 3)) == -1 && errno == EPERM)
        without("the right to make device nodes");
    HOLDS(look("null").st_rdev == makedev(1, 3) && S_ISCHR(look("null").st_mode));
    HOLDS(mknod("block", S_IFBLK | 0600, makedev(7, 300)) == 0 && look("block").st_rdev == makedev(7, 300));
    HOLDS(mknod("plain", S_IFREG | 0640, 0) == 0 && look("plain").st_mode == (S_IFREG | 0640));
    int fd = open("null", O_RDWR);
    if (fd == -1 && errno == EACCES)
        without("device nodes that can be opened here");
    HOLDS(fd >= 0 && write(fd, "gone", 4) == 4 && read(fd, &fd, 1) == 0);
}

static void a_user_is_kept_out(void)
{
    FAILS(EACCES, open("../roots/secret", O_RDONLY));
    FAILS(EACCES, open("../roots/readable", O_WRONLY));
    HOLDS(text_is("../roots/readable", "text"));
    FAILS(EACCES, open("../roots/new", O_WRONLY | O_CREAT, 0644));
    FAILS(EACCES, mkdir("../roots/new", 0755));
    FAILS(EACCES, symlink("x", "../roots/new"));
    FAILS(EACCES, unlink("../roots/readable"));
    FAILS(EACCES, rename("../roots/readable", "mine"));
    FAILS(EACCES, open("../roots/closed/f", O_RDONLY));
    FAILS(EACCES, open("../roots/closed", O_RDONLY));
    struct stat st;
    FAILS(EACCES, stat("../roots/closed/f", &st));
    FAILS(EACCES, open("../roots/unlisted", O_RDONLY));
    HOLDS(text_is("../roots/unlisted/f", "found"));
    FAILS(EACCES, access("../roots/readable", W_OK));
    FAILS(EACCES, truncate("../roots/readable", 0));
}

static void a_user_changes_only_what_is_its_own(void)
{
    put("f", "");
    FAILS(EPERM, chmod("../roots/readable", 0666));
    FAILS(EPERM, chown("../roots/readable", USER_ID, -1));
    FAILS(EPERM, chown("f", 0, -1));
    FAILS(EPERM, chown("f", -1, 0));
    HOLDS(chown("f", -1, GROUP_ID) == 0 && chown("f", USER_ID, -1) == 0);
    struct timespec past[2] = { { 1, 0 }, { 1, 0 } };
    FAILS(EPERM, utimensat(AT_FDCWD, "../roots/open-to-all", past, 0));
    HOLDS(utimensat(AT_FDCWD, "../roots/open-to-all", NULL, 0) == 0);
    FAILS(EACCES, utimensat(AT_FDCWD, "../roots/readable", NULL, 0));
    FAILS(EPERM, mknod("device", S_IFCHR | 0666, makedev(1, 3)));
    HOLDS(chmod("f", 0) == 0);
    FAILS(EACCES, open("f", O_RDONLY));
    HOLDS(mkdir("d", 0755) == 0 && chmod("d", 0555) == 0);
    FAILS(EACCES, open("d/f", O_WRONLY | O_CREAT, 0644));
}

static void sticky_directories_protect(void)
{
    put("../roots/sticky/mine", "");
    HOLDS(unlink("../roots/sticky/theirs") == -1 && (errno == EPERM || errno == EACCES));
    HOLDS(rename("../roots/sticky/theirs", "x") == -1 && (errno == EPERM || errno == EACCES));
    HOLDS(rename("../roots/sticky/mine", "../roots/sticky/theirs") == -1 && (errno == EPERM || errno == EACCES));
    HOLDS(unlink("../roots/sticky/mine") == 0);
}

static void writing_takes_privilege_away(void)
{
    put("f", "x");
    HOLDS(chmod("f", 06777) == 0);
    int fd = open("f", O_WRONLY);
    HOLDS(write(fd, "y", 1) == 1 && (look("f").st_mode & 07777) == 0777);
    HOLDS(chmod("f", 06777) == 0 && truncate("f", 0) == 0 && (look("f").st_mode & 07777) == 0777);
    HOLDS(chmod("f", 06777) == 0 && open("f", O_WRONLY | O_TRUNC) >= 0 && (look("f").st_mode & 07777) == 0777);
    HOLDS(chmod("f", 06777) == 0 && open("f", O_WRONLY | O_CREAT | O_TRUNC, 0600) >= 0);
    HOLDS((look("f").st_mode & 07777) == 0777);
    HOLDS(chmod("f", 06777) == 0 && open("f", O_RDONLY | O_TRUNC) >= 0 && (look("f").st_mode & 07777) == 0777);
    HOLDS(chmod("f", 04777) == 0 && chown("f", -1, GROUP_ID) == 0 && (look("f").st_mode & 07777) == 0777);
}

const struct rule owner_rules[] = {
    { "modes are kept", modes_are_kept, BOTH },
    { "new things belong to who makes them", new_things_belong_to_who_makes_them, BOTH },
    { "root gives away", root_gives_away, ROOT },
    { "root passes by modes", root_passes_by_modes, ROOT },
    { "device nodes are the guest's", device_nodes_are_the_guests, ROOT },
    { "a user is kept out", a_user_is_kept_out, USER },
    { "a user changes only what is its own", a_user_changes_only_what_is_its_own, USER },
    { "sticky directories protect", sticky_directories_protect, USER },
    { "writing takes privilege away", writing_takes_privilege_away, USER },
    { NULL, NULL, 0 },
};
