/* Shares, overlays, init and what runs. */
#include <stdlib.h>

#include "check.h"

#define TAG_36 "0123456789abcdef0123456789abcdef0123"

static void shares(int32_t ctx)
{
	CHECK(krun_set_root(ctx, "/nowhere"), 0);
	CHECK(krun_set_root(ctx, "/nowhere"), 0);
	FAILS(krun_set_root(NO_CTX, "/"), ENOENT, "context");
	FAILS(krun_set_root(NO_CTX, NULL), EINVAL, "root_path: NULL");
	FAILS(krun_set_root(NO_CTX, BAD_TEXT), EINVAL, "root_path: not UTF-8");

	CHECK(krun_add_virtiofs(ctx, "a", "/nowhere"), 0);
	CHECK(krun_add_virtiofs(ctx, "a", NULL), 0);
	CHECK(krun_add_virtiofs(ctx, TAG_36, "/"), 0);
	CHECK(krun_add_virtiofs(ctx, KRUN_FS_ROOT_TAG, "/"), 0);
	FAILS(krun_add_virtiofs(NO_CTX, TAG_36 "x", "/"), EINVAL, "37 bytes");
	FAILS(krun_add_virtiofs(NO_CTX, "", "/"), EINVAL, "0 bytes");
	FAILS(krun_add_virtiofs(NO_CTX, NULL, NULL), EINVAL, "c_tag: NULL");
	FAILS(krun_add_virtiofs(NO_CTX, BAD_TEXT, NULL), EINVAL, "c_tag: not UTF-8");
	FAILS(krun_add_virtiofs(NO_CTX, "a", BAD_TEXT), EINVAL, "c_path: not UTF-8");
	FAILS(krun_add_virtiofs(NO_CTX, "a", NULL), ENOENT, "context");

	CHECK(krun_add_virtiofs2(ctx, "b", "/", UINT64_MAX), 0);
	FAILS(krun_add_virtiofs2(NO_CTX, NULL, "/", 0), EINVAL, "c_tag");
	FAILS(krun_add_virtiofs2(NO_CTX, "b", "/", 1), ENOENT, "context");
	CHECK(krun_add_virtiofs3(ctx, "c", "/", 4095, true), 0);
	FAILS(krun_add_virtiofs3(NO_CTX, NULL, "/", 0, true), EINVAL, "c_tag");
	FAILS(krun_add_virtiofs3(NO_CTX, "b", "/", 1, true), ENOENT, "context");

	CHECK(krun_add_virtiofs4(ctx, "d", "/", 0, false, KRUN_SEMANTICS_LINUX_COMPLETE), 0);
	CHECK(krun_add_virtiofs4(ctx, "d", NULL, 0, true, KRUN_SEMANTICS_LINUX_SIMPLIFIED), 0);
	FAILS(krun_add_virtiofs4(NO_CTX, NULL, NULL, 0, true, 2), EINVAL, "semantics");
	FAILS(krun_add_virtiofs4(NO_CTX, "d", NULL, 0, true, UINT32_MAX), EINVAL, "semantics");
	FAILS(krun_add_virtiofs4(NO_CTX, NULL, NULL, 0, true, 1), EINVAL, "c_tag");
	FAILS(krun_add_virtiofs4(NO_CTX, "d", NULL, 0, true, 1), ENOENT, "context");

	FAILS(krun_set_mapped_volumes(ctx, EMPTY_LIST), EINVAL, "mapped volumes");
	FAILS(krun_set_mapped_volumes(NO_CTX, NULL), EINVAL, "mapped volumes");
}

static void overlays(int32_t ctx)
{
	const uint8_t data[] = "data";

	CHECK(krun_add_virtiofs(ctx, "fs", NULL), 0);
	CHECK(krun_fs_add_overlay_dir(ctx, "fs", "/dir", 0755), 0);
	CHECK(krun_fs_add_overlay_dir(ctx, "fs", "dir/sub", UINT32_MAX), 0);
	CHECK(krun_fs_add_overlay_file(ctx, "fs", "dir/sub/file", data, sizeof(data), 0644, false), 0);
	CHECK(krun_fs_add_overlay_file(ctx, "fs", "/file", data, 0, 0100644, true), 0);
	CHECK(krun_fs_add_overlay_file(ctx, "fs", "file", NULL, 0, 0, true), 0);
	CHECK(krun_fs_add_overlay_dir(ctx, "fs", "dir", 0), 0);
	FAILS(krun_fs_add_overlay_dir(ctx, "fs", "dir/sub/x", 0), ENOENT, "dir/sub");
	FAILS(krun_fs_add_overlay_dir(ctx, "fs", "file/x", 0), ENOTDIR, "file");
	FAILS(krun_fs_add_overlay_dir(ctx, "fs", "none/x", 0), ENOENT, "none");
	FAILS(krun_fs_add_overlay_dir(ctx, "fs", "dir//x", 0), ENOENT, "dir/");
	FAILS(krun_fs_add_overlay_dir(ctx, "fs", "dir/", 0), EINVAL, "path");
	FAILS(krun_fs_add_overlay_dir(ctx, "fs", "", 0), EINVAL, "path");
	FAILS(krun_fs_add_overlay_dir(ctx, "fs", "/", 0), EINVAL, "path");
	FAILS(krun_fs_add_overlay_dir(ctx, "other", "x", 0), ENOENT, "fs_tag");
	FAILS(krun_fs_add_overlay_dir(NO_CTX, "fs", "", 0), ENOENT, "context");
	FAILS(krun_fs_add_overlay_dir(NO_CTX, NULL, "x", 0), EINVAL, "fs_tag");
	FAILS(krun_fs_add_overlay_dir(NO_CTX, "fs", NULL, 0), EINVAL, "path");
	FAILS(krun_fs_add_overlay_dir(NO_CTX, "fs", BAD_TEXT, 0), EINVAL, "path");

	FAILS(krun_fs_add_overlay_file(NO_CTX, NULL, "x", data, 1, 0, false), EINVAL, "fs_tag");
	FAILS(krun_fs_add_overlay_file(NO_CTX, BAD_TEXT, "x", data, 1, 0, false), EINVAL, "fs_tag");
	FAILS(krun_fs_add_overlay_file(NO_CTX, "fs", NULL, data, 1, 0, false), EINVAL, "path");
	FAILS(krun_fs_add_overlay_file(NO_CTX, "fs", "x", NULL, 1, 0, false), EINVAL, "data");
	FAILS(krun_fs_add_overlay_file(NO_CTX, "fs", "x", data, SIZE_MAX, 0, false), EINVAL, "data");
	FAILS(krun_fs_add_overlay_file(NO_CTX, "fs", "x", data, 1, 0, false), ENOENT, "context");
	FAILS(krun_fs_add_overlay_file(ctx, "other", "x", data, 1, 0, false), ENOENT, "fs_tag");
}

static void init(int32_t ctx)
{
	const uint8_t *data = NULL;
	size_t len = 0;

	CHECK(krun_disable_implicit_init(ctx), 0);
	CHECK(krun_disable_implicit_init(ctx), 0);
	FAILS(krun_disable_implicit_init(NO_CTX), ENOENT, "context");
	FAILS(krun_get_default_init(NULL, &len), EINVAL, "data_out");
	FAILS(krun_get_default_init(&data, NULL), EINVAL, "len_out");
	CHECK(data == NULL && len == 0, 1);
	CHECK(krun_get_default_init(&data, &len), 0);
	CHECK(len > 1000 && memcmp(data, "\177ELF", 4) == 0, 1);
}

static void exec_calls(int32_t ctx)
{
	static const char *many[5001];
	size_t i;

	for (i = 0; i < 5000; i++)
		many[i] = i < 4096 ? "x" : BAD_TEXT;

	CHECK(krun_set_exec(ctx, "/bin/sh", LIST("-c", "true"), LIST("A=1", "B")), 0);
	CHECK(krun_set_exec(ctx, "", NULL, EMPTY_LIST), 0);
	CHECK(krun_set_exec(ctx, "x", many, many), 0);
	CHECK(setenv("ODD", BAD_TEXT "\n", 1), 0);
	CHECK(krun_set_exec(ctx, "x", NULL, NULL), 0);
	FAILS(krun_set_exec(NO_CTX, NULL, NULL, NULL), EINVAL, "exec_path");
	FAILS(krun_set_exec(NO_CTX, BAD_TEXT, NULL, NULL), EINVAL, "exec_path");
	FAILS(krun_set_exec(NO_CTX, "x", LIST(BAD_TEXT), NULL), EINVAL, "argv[0]");
	FAILS(krun_set_exec(NO_CTX, "x", NULL, LIST("A=1", BAD_TEXT)), EINVAL, "envp[1]");
	FAILS(krun_set_exec(NO_CTX, "x", NULL, NULL), ENOENT, "context");

	CHECK(krun_set_env(ctx, LIST("A=1")), 0);
	CHECK(krun_set_env(ctx, NULL), 0);
	FAILS(krun_set_env(NO_CTX, LIST(BAD_TEXT)), EINVAL, "envp[0]");
	FAILS(krun_set_env(NO_CTX, NULL), ENOENT, "context");

	CHECK(krun_set_workdir(ctx, "/tmp"), 0);
	FAILS(krun_set_workdir(NO_CTX, NULL), EINVAL, "workdir_path");
	FAILS(krun_set_workdir(NO_CTX, BAD_TEXT), EINVAL, "workdir_path");
	FAILS(krun_set_workdir(NO_CTX, "/"), ENOENT, "context");

	CHECK(krun_set_rlimits(ctx, LIST("7=1:2", "not looked at")), 0);
	CHECK(krun_set_rlimits(ctx, EMPTY_LIST), 0);
	FAILS(krun_set_rlimits(NO_CTX, NULL), EINVAL, "rlimits");
	FAILS(krun_set_rlimits(NO_CTX, LIST(BAD_TEXT)), EINVAL, "rlimits[0]");
	FAILS(krun_set_rlimits(NO_CTX, EMPTY_LIST), ENOENT, "context");
}

int main(void)
{
	int32_t ctx = krun_create_ctx();

	shares(ctx);
	overlays(ctx);
	init(ctx);
	exec_calls(ctx);
	CHECK(krun_free_ctx(ctx), 0);
	return result();
}
