// C with a library: a reactor that initializes itself, and prints through WASI.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define IMPORT(name) __attribute__((import_module("env"), import_name(name)))
#define EXPORT(name) __attribute__((export_name(name)))

IMPORT("proxy_get_header_map_value")
uint32_t get_header(uint32_t map, const char *name, size_t name_size, char **value, size_t *value_size);
IMPORT("proxy_add_header_map_value")
uint32_t add_header(uint32_t map, const char *name, size_t name_size, const char *value, size_t value_size);

EXPORT("proxy_abi_version_0_2_0") void declare_abi(void) {}

EXPORT("malloc") void *allocate(size_t size) { return malloc(size); }

EXPORT("proxy_on_request_headers")
uint32_t on_request_headers(uint32_t context, uint32_t count, uint32_t end_of_stream) {
  char *value = NULL;
  size_t size = 0;
  if (get_header(0, "x-probe", 7, &value, &size) != 0)
    return 0;
  printf("context %u: %.*s of %zu bytes\n", context, (int)size, value, size);
  printf("not a line");
  fflush(stdout);
  fprintf(stderr, "%s is %s\n", "TOLLGATE", getenv("TOLLGATE"));
  add_header(0, "x-c", 3, value, size);
  free(value);
  return 0;
}
