// AssemblyScript on the bare ABI; what traps in it traps as an instruction.
@external("env", "proxy_log")
declare function log(level: u32, data: usize, size: usize): u32;
@external("env", "proxy_get_header_map_value")
declare function getHeader(map: u32, name: usize, nameSize: usize, value: usize, valueSize: usize): u32;
@external("env", "proxy_add_header_map_value")
declare function addHeader(map: u32, name: usize, nameSize: usize, value: usize, valueSize: usize): u32;

export function proxy_abi_version_0_2_0(): void {}

export function proxy_on_memory_allocate(size: u32): usize {
  return heap.alloc(size);
}

export function proxy_on_request_headers(context: u32, count: u32, endOfStream: u32): u32 {
  const name = String.UTF8.encode("x-probe");
  const own = String.UTF8.encode("x-assemblyscript");
  const places = heap.alloc(8);
  if (getHeader(0, changetype<usize>(name), name.byteLength, places, places + 4) != 0) return 0;
  const value = load<usize>(places);
  const size = load<usize>(places, 4);
  log(2, value, size);
  addHeader(0, changetype<usize>(own), own.byteLength, value, size);
  heap.free(value);
  heap.free(places);
  return 0;
}

function stop(message: string | null, file: string | null, line: u32, column: u32): void {
  unreachable();
}
