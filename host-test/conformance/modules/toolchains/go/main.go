// Go as a reactor of WASI: its runtime starts with _initialize, and prints in fragments.
package main

import "unsafe"

//go:wasmimport env proxy_get_header_map_value
func getHeader(kind uint32, name unsafe.Pointer, nameSize uint32, value, valueSize unsafe.Pointer) uint32

//go:wasmimport env proxy_add_header_map_value
func addHeader(kind uint32, name unsafe.Pointer, nameSize uint32, value unsafe.Pointer, valueSize uint32) uint32

// What the host has asked for and nobody has taken yet, so that it is not collected.
var given = map[uint32][]byte{}

//go:wasmexport proxy_abi_version_0_2_1
func declareAbi() {}

//go:wasmexport proxy_on_memory_allocate
func allocate(size uint32) unsafe.Pointer {
	bytes := make([]byte, size)
	pointer := unsafe.Pointer(unsafe.SliceData(bytes))
	given[uint32(uintptr(pointer))] = bytes
	return pointer
}

//go:wasmexport proxy_on_request_headers
func onRequestHeaders(context, count, endOfStream uint32) uint32 {
	name, own := []byte("x-probe"), []byte("x-go")
	var address, size uint32
	status := getHeader(0, unsafe.Pointer(&name[0]), uint32(len(name)), unsafe.Pointer(&address), unsafe.Pointer(&size))
	if status != 0 {
		return 0
	}
	value := given[address]
	delete(given, address)
	println("x-probe:", string(value))
	addHeader(0, unsafe.Pointer(&own[0]), uint32(len(own)), unsafe.Pointer(&value[0]), size)
	return 0
}

//go:wasmexport proxy_on_response_headers
func onResponseHeaders(context, count, endOfStream uint32) uint32 {
	var none []byte
	return uint32(none[count])
}

func main() {}
