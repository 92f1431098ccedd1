// Zig with WASI, as a command: its _start exits, for which Envoy refuses it.
export fn proxy_abi_version_0_2_1() void {}

export fn proxy_on_memory_allocate(size: usize) ?[*]u8 {
    _ = size;
    return null;
}

pub fn main() void {}
