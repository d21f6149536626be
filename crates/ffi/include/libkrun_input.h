/* Types of libkrun's input interface. krun_add_input_device() answers -ENOTSUP in this library; the header is there
 * for programs that include it. */
#ifndef _LIBKRUN_INPUT_H
#define _LIBKRUN_INPUT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KRUN_INPUT_ERR_INTERNAL -1
#define KRUN_INPUT_ERR_EAGAIN -2
#define KRUN_INPUT_ERR_METHOD_UNSUPPORTED -3
#define KRUN_INPUT_ERR_INVALID_PARAM -4

#define KRUN_INPUT_CONFIG_FEATURE_QUERY 1
#define KRUN_INPUT_EVENT_PROVIDER_FEATURE_QUEUE 1

/* As struct input_event of Linux, without its time. */
struct krun_input_event {
	uint16_t type;
	uint16_t code;
	uint32_t value;
};

struct krun_input_device_ids {
	uint16_t bustype;
	uint16_t vendor;
	uint16_t product;
	uint16_t version;
};

struct krun_input_absinfo {
	uint32_t min;
	uint32_t max;
	uint32_t fuzz;
	uint32_t flat;
	uint32_t res;
};

/* Functions return 0, a length, or KRUN_INPUT_ERR_*. */
typedef int32_t (*krun_input_create_fn)(void **instance, const void *userdata, const void *reserved);
typedef int32_t (*krun_input_destroy_fn)(void *instance);
typedef int32_t (*krun_input_query_text_fn)(void *instance, uint8_t *text, size_t text_size);
typedef int32_t (*krun_input_query_device_ids_fn)(void *instance, struct krun_input_device_ids *ids);
typedef int32_t (*krun_input_query_event_capabilities_fn)(void *instance, uint8_t event_type, uint8_t *bitmap,
                                                          size_t bitmap_size);
typedef int32_t (*krun_input_query_abs_info_fn)(void *instance, uint8_t abs_axis, struct krun_input_absinfo *info);
typedef int32_t (*krun_input_query_properties_fn)(void *instance, uint8_t *bitmap, size_t bitmap_size);
typedef int (*krun_input_get_ready_efd_fn)(void *instance);
typedef int32_t (*krun_input_next_event_fn)(void *instance, struct krun_input_event *event);

/* destroy may be NULL. */
struct krun_input_config_vtable {
	krun_input_destroy_fn destroy;
	krun_input_query_text_fn query_device_name;
	krun_input_query_text_fn query_serial_name;
	krun_input_query_device_ids_fn query_device_ids;
	krun_input_query_event_capabilities_fn query_event_capabilities;
	krun_input_query_abs_info_fn query_abs_info;
	krun_input_query_properties_fn query_properties;
};

struct krun_input_config {
	uint64_t features;
	void *create_userdata;
	krun_input_create_fn create;
	struct krun_input_config_vtable vtable;
};

/* destroy may be NULL. */
struct krun_input_event_provider_vtable {
	krun_input_destroy_fn destroy;
	krun_input_get_ready_efd_fn get_ready_efd;
	krun_input_next_event_fn next_event;
};

struct krun_input_event_provider {
	uint64_t features;
	void *create_userdata;
	krun_input_create_fn create;
	struct krun_input_event_provider_vtable vtable;
};

#ifdef __cplusplus
}
#endif

#endif
