/* Types of libkrun's display interface. krun_set_display_backend() answers -ENOTSUP in this library; the header is
 * there for programs that include it. */
#ifndef _LIBKRUN_DISPLAY_H
#define _LIBKRUN_DISPLAY_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KRUN_DISPLAY_ERR_INTERNAL -1
#define KRUN_DISPLAY_ERR_METHOD_UNSUPPORTED -2
#define KRUN_DISPLAY_ERR_INVALID_SCANOUT_ID -3
#define KRUN_DISPLAY_ERR_INVALID_PARAM -4
#define KRUN_DISPLAY_ERR_OUT_OF_BUFFERS -5

#define KRUN_DISPLAY_FORMAT_B8G8R8A8_UNORM 1
#define KRUN_DISPLAY_FORMAT_B8G8R8X8_UNORM 2
#define KRUN_DISPLAY_FORMAT_A8R8G8B8_UNORM 3
#define KRUN_DISPLAY_FORMAT_X8R8G8B8_UNORM 4
#define KRUN_DISPLAY_FORMAT_R8G8B8A8_UNORM 67
#define KRUN_DISPLAY_FORMAT_X8B8G8R8_UNORM 68
#define KRUN_DISPLAY_FORMAT_A8B8G8R8_UNORM 121
#define KRUN_DISPLAY_FORMAT_R8G8B8X8_UNORM 134

#define KRUN_DISPLAY_FEATURE_BASIC_FRAMEBUFFER 1

/* Pixels. */
struct krun_rect {
	uint32_t x;
	uint32_t y;
	uint32_t width;
	uint32_t height;
};

/* Functions return 0, a frame id where one is asked for, or KRUN_DISPLAY_ERR_*. */
typedef int32_t (*krun_display_create_fn)(void **instance, const void *userdata, const void *reserved);
typedef int32_t (*krun_display_destroy_fn)(void *instance);
typedef int32_t (*krun_display_disable_scanout_fn)(void *instance, uint32_t scanout_id);
typedef int32_t (*krun_display_configure_scanout_fn)(void *instance, uint32_t scanout_id, uint32_t display_width,
                                                     uint32_t display_height, uint32_t width, uint32_t height,
                                                     uint32_t format);
typedef int32_t (*krun_display_alloc_frame_fn)(void *instance, uint32_t scanout_id, uint8_t **buffer,
                                               size_t *buffer_size);
typedef int32_t (*krun_display_present_frame_fn)(void *instance, uint32_t scanout_id, uint32_t frame_id,
                                                 const struct krun_rect *damage);

/* destroy may be NULL. */
struct krun_display_basic_framebuffer_vtable {
	krun_display_destroy_fn destroy;
	krun_display_disable_scanout_fn disable_scanout;
	krun_display_configure_scanout_fn configure_scanout;
	krun_display_alloc_frame_fn alloc_frame;
	krun_display_present_frame_fn present_frame;
};

union krun_display_vtable {
	struct krun_display_basic_framebuffer_vtable basic_framebuffer;
};

struct krun_display_backend {
	uint64_t features;
	void *create_userdata;
	krun_display_create_fn create;
	union krun_display_vtable vtable;
};

#ifdef __cplusplus
}
#endif

#endif
