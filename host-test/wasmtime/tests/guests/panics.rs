//! A filter without an SDK that reads behind the end of a list.

#[unsafe(no_mangle)]
pub extern "C" fn proxy_abi_version_0_2_1() {}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    Vec::with_capacity(size).leak().as_mut_ptr()
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_request_headers(_context: u32, count: u32, _end: u32) -> u32 {
    third_of(&vec![count; 2])
}

#[inline(never)]
fn third_of(list: &[u32]) -> u32 {
    list[2]
}
