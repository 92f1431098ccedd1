// Zig without WASI, with its allocator.
const std = @import("std");

extern "env" fn proxy_log(level: u32, data: [*]const u8, size: usize) u32;
extern "env" fn proxy_get_header_map_value(map: u32, name: [*]const u8, name_size: usize, value: *?[*]u8, value_size: *usize) u32;
extern "env" fn proxy_add_header_map_value(map: u32, name: [*]const u8, name_size: usize, value: [*]const u8, value_size: usize) u32;

export fn proxy_abi_version_0_2_1() void {}

export fn proxy_on_memory_allocate(size: usize) ?[*]u8 {
    const bytes = std.heap.wasm_allocator.alloc(u8, size) catch return null;
    return bytes.ptr;
}

export fn proxy_on_request_headers(context: u32, count: u32, end_of_stream: u32) u32 {
    _ = .{ context, count, end_of_stream };
    const name = "x-probe";
    var data: ?[*]u8 = null;
    var size: usize = 0;
    if (proxy_get_header_map_value(0, name, name.len, &data, &size) != 0) return 0;
    const value = (data orelse return 0)[0..size];
    defer std.heap.wasm_allocator.free(value);
    _ = proxy_log(2, value.ptr, value.len);
    _ = proxy_add_header_map_value(0, "x-zig", 5, value.ptr, value.len);
    return 0;
}
