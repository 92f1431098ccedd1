// C++ without its library: an object that is constructed when the module initializes itself, and a context
// behind a virtual call.
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define IMPORT(name) __attribute__((import_module("env"), import_name(name)))
#define EXPORT(name) extern "C" __attribute__((export_name(name)))

extern "C" {
IMPORT("proxy_get_header_map_value")
uint32_t get_header(uint32_t map, const char *name, size_t name_size, char **value, size_t *value_size);
IMPORT("proxy_add_header_map_value")
uint32_t add_header(uint32_t map, const char *name, size_t name_size, const char *value, size_t value_size);
}

struct Context {
  virtual uint32_t on_request_headers() = 0;
};

struct Copying final : Context {
  const char *name;
  size_t size;

  // What it does at compile time would be no construction.
  Copying() : name(getenv("TOLLGATE") ? "x-cc" : "x-unconfigured"), size(getenv("TOLLGATE") ? 4 : 14) {}

  uint32_t on_request_headers() override {
    char *value = nullptr;
    size_t value_size = 0;
    if (get_header(0, "x-probe", 7, &value, &value_size) == 0) {
      add_header(0, name, size, value, value_size);
      free(value);
    }
    return 0;
  }
};

static Copying copying;
static Context *volatile context = &copying;

EXPORT("proxy_abi_version_0_2_1") void declare_abi() {}

EXPORT("proxy_on_memory_allocate") void *allocate(size_t size) { return malloc(size); }

EXPORT("proxy_on_request_headers")
uint32_t on_request_headers(uint32_t, uint32_t, uint32_t) { return context->on_request_headers(); }
