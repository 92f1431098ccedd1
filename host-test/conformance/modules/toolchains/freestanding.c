// C without any library, on the first version of the ABI; malloc is all that it has of one.
typedef unsigned int u32;
typedef __SIZE_TYPE__ size_t;

#define IMPORT(name) __attribute__((import_module("env"), import_name(name)))
#define EXPORT(name) __attribute__((export_name(name)))

IMPORT("proxy_log") u32 host_log(u32 level, const char *message, u32 size);
IMPORT("proxy_get_configuration") u32 get_configuration(const char **bytes, u32 *size);
IMPORT("proxy_get_header_map_value")
u32 get_header(u32 map, const char *name, u32 name_size, const char **value, u32 *value_size);

static char heap[65536];
static u32 used;

EXPORT("proxy_abi_version_0_1_0") void declare_abi(void) {}

EXPORT("malloc") void *malloc(size_t size) {
  void *bytes = heap + used;
  used += ((u32)size + 7) & ~7u;
  return used <= sizeof heap ? bytes : 0;
}

EXPORT("proxy_on_configure") u32 on_configure(u32 context, u32 count) {
  const char *bytes = 0;
  u32 size = 0;
  if (get_configuration(&bytes, &size) == 0)
    host_log(2, bytes, size);
  return 1;
}

EXPORT("proxy_on_request_headers") u32 on_request_headers(u32 context, u32 count) {
  const char *bytes = 0;
  u32 size = 0;
  if (get_header(0, "x-missing", 9, &bytes, &size) == 0 && size == 0)
    host_log(2, "missing", 7);
  return 0;
}
