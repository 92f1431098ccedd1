//! The border: host functions as total, safe functions. All `unsafe` of the SDK is here.
//!
//! Each function of the ABI is declared once, from the table of `tollgate-abi`, and returns a `u32`,
//! so that no number a host returns is undefined behaviour.
#![expect(
    unsafe_code,
    reason = "host functions are foreign, and their answers lie in memory that changes owners"
)]

use std::alloc::{Layout, alloc};
use std::ptr;

use tollgate_abi::{BufferType, Function, LogLevel, MapType, MetricType, Status, StreamType};

use crate::host_error::HostError;

macro_rules! declare_host_functions {
    ($( $(#[$doc:meta])* $versions:ident $module:tt $name:ident = $variant:ident { $( $field:ident : $kind:ty [ $($word:ident : $word_type:ty),* ] ),* } -> $answer:ident [ $($slot:ident : $slot_type:ty),* ]; )*) => {
        $( declare_host_functions!(@ $module $name ($($($word: $word_type,)*)* $($slot: $slot_type,)*)); )*
    };
    (@ "env" $name:ident ($($word:ident : $type:ty,)*)) => {
        #[link(wasm_import_module = "env")]
        unsafe extern "C" {
            #[allow(dead_code, reason = "the table is whole; what is not called is not imported")]
            fn $name($($word: $type),*) -> u32;
        }
    };
    // The standard library calls what it needs of WASI.
    (@ "wasi_snapshot_preview1" $($rest:tt)*) => {};
}

tollgate_abi::host_functions!(declare_host_functions);

pub(crate) fn log(level: LogLevel, message: &[u8]) -> Result<(), HostError> {
    // SAFETY: pointer and size are those of one slice, which the host only reads.
    let status = unsafe { proxy_log(level.into(), message.as_ptr(), message.len()) };
    done(Function::Log, status)
}

pub(crate) fn log_level() -> Result<LogLevel, HostError> {
    let mut level = 0;
    // SAFETY: the host writes one u32 to the address of one.
    let status = unsafe { proxy_get_log_level(&raw mut level) };
    done(Function::GetLogLevel, status).map(|()| level.into())
}

/// Nanoseconds since the Unix epoch.
pub(crate) fn current_time() -> Result<u64, HostError> {
    let mut nanoseconds = 0;
    // SAFETY: the host writes one u64 to the address of one.
    let status = unsafe { proxy_get_current_time_nanoseconds(&raw mut nanoseconds) };
    done(Function::GetCurrentTime, status).map(|()| nanoseconds)
}

pub(crate) fn property(path: &[u8]) -> Result<Vec<u8>, HostError> {
    let mut value = Slot::EMPTY;
    // SAFETY: pointer and size are those of one slice, which the host only reads; it writes one
    // pointer and one size to the addresses of such.
    let status = unsafe {
        proxy_get_property(path.as_ptr(), path.len(), &raw mut value.data, &raw mut value.size)
    };
    // SAFETY: only the call above has written to the slot.
    unsafe { value.take(Function::GetProperty, status) }
}

pub(crate) fn buffer(buffer: BufferType, start: u32, max_size: u32) -> Result<Vec<u8>, HostError> {
    let mut bytes = Slot::EMPTY;
    // SAFETY: the host writes one pointer and one size to the addresses of such.
    let status = unsafe {
        proxy_get_buffer_bytes(
            buffer.into(),
            start,
            max_size,
            &raw mut bytes.data,
            &raw mut bytes.size,
        )
    };
    // SAFETY: only the call above has written to the slot.
    unsafe { bytes.take(Function::GetBufferBytes, status) }
}

/// Replaces `size` bytes from `start` on.
pub(crate) fn set_buffer(
    buffer: BufferType,
    start: u32,
    size: u32,
    value: &[u8],
) -> Result<(), HostError> {
    // SAFETY: pointer and size are those of one slice, which the host only reads.
    let status =
        unsafe { proxy_set_buffer_bytes(buffer.into(), start, size, value.as_ptr(), value.len()) };
    done(Function::SetBufferBytes, status)
}

/// How many bytes a buffer has.
pub(crate) fn buffer_size(buffer: BufferType) -> Result<usize, HostError> {
    let (mut size, mut flags) = (0, 0);
    // SAFETY: the host writes one size and one u32 to the addresses of such.
    let status = unsafe { proxy_get_buffer_status(buffer.into(), &raw mut size, &raw mut flags) };
    done(Function::GetBufferStatus, status).map(|()| size)
}

/// The first line of a header.
pub(crate) fn header(map: MapType, name: &[u8]) -> Result<Vec<u8>, HostError> {
    let mut value = Slot::EMPTY;
    // SAFETY: pointer and size are those of one slice, which the host only reads; it writes one
    // pointer and one size to the addresses of such.
    let status = unsafe {
        proxy_get_header_map_value(
            map.into(),
            name.as_ptr(),
            name.len(),
            &raw mut value.data,
            &raw mut value.size,
        )
    };
    // SAFETY: only the call above has written to the slot.
    unsafe { value.take(Function::GetHeaderMapValue, status) }
}

/// How many bytes the names and values of a header map have.
pub(crate) fn header_map_size(map: MapType) -> Result<usize, HostError> {
    let mut size = 0;
    // SAFETY: the host writes one size to the address of one.
    let status = unsafe { proxy_get_header_map_size(map.into(), &raw mut size) };
    done(Function::GetHeaderMapSize, status).map(|()| size)
}

/// Replaces the header map; `pairs` are serialised. Envoy takes more than [`MAX_PAIRS`] of them, or more
/// than [`MAX_BYTES`], for none.
///
/// [`MAX_PAIRS`]: tollgate_abi::pairs::MAX_PAIRS
/// [`MAX_BYTES`]: tollgate_abi::pairs::MAX_BYTES
pub(crate) fn set_header_pairs(map: MapType, pairs: &[u8]) -> Result<(), HostError> {
    // SAFETY: pointer and size are those of one slice, which the host only reads.
    let status = unsafe { proxy_set_header_map_pairs(map.into(), pairs.as_ptr(), pairs.len()) };
    done(Function::SetHeaderMapPairs, status)
}

/// The header map, serialised.
pub(crate) fn header_pairs(map: MapType) -> Result<Vec<u8>, HostError> {
    let mut pairs = Slot::EMPTY;
    // SAFETY: the host writes one pointer and one size to the addresses of such.
    let status =
        unsafe { proxy_get_header_map_pairs(map.into(), &raw mut pairs.data, &raw mut pairs.size) };
    // SAFETY: only the call above has written to the slot.
    unsafe { pairs.take(Function::GetHeaderMapPairs, status) }
}

/// The value of the first line with this name.
pub(crate) fn header_value(map: MapType, name: &[u8]) -> Result<Vec<u8>, HostError> {
    let mut value = Slot::EMPTY;
    // SAFETY: pointer and size are those of one slice, which the host only reads; it writes one
    // pointer and one size to the addresses of such.
    let status = unsafe {
        proxy_get_header_map_value(
            map.into(),
            name.as_ptr(),
            name.len(),
            &raw mut value.data,
            &raw mut value.size,
        )
    };
    // SAFETY: only the call above has written to the slot.
    unsafe { value.take(Function::GetHeaderMapValue, status) }
}

pub(crate) fn replace_header(map: MapType, name: &[u8], value: &[u8]) -> Result<(), HostError> {
    // SAFETY: pointers and sizes are those of two slices, which the host only reads.
    let status = unsafe {
        proxy_replace_header_map_value(
            map.into(),
            name.as_ptr(),
            name.len(),
            value.as_ptr(),
            value.len(),
        )
    };
    done(Function::ReplaceHeaderMapValue, status)
}

pub(crate) fn add_header(map: MapType, name: &[u8], value: &[u8]) -> Result<(), HostError> {
    // SAFETY: pointers and sizes are those of two slices, which the host only reads.
    let status = unsafe {
        proxy_add_header_map_value(
            map.into(),
            name.as_ptr(),
            name.len(),
            value.as_ptr(),
            value.len(),
        )
    };
    done(Function::AddHeaderMapValue, status)
}

pub(crate) fn remove_header(map: MapType, name: &[u8]) -> Result<(), HostError> {
    // SAFETY: pointer and size are those of one slice, which the host only reads.
    let status = unsafe { proxy_remove_header_map_value(map.into(), name.as_ptr(), name.len()) };
    done(Function::RemoveHeaderMapValue, status)
}

/// `headers` are serialised pairs; a `grpc_status` of `u32::MAX` is none.
pub(crate) fn send_local_response(
    status_code: u32,
    details: &[u8],
    body: &[u8],
    headers: &[u8],
    grpc_status: u32,
) -> Result<(), HostError> {
    // SAFETY: pointers and sizes are those of three slices, which the host only reads.
    let status = unsafe {
        proxy_send_local_response(
            status_code,
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            grpc_status,
        )
    };
    done(Function::SendLocalResponse, status)
}

pub(crate) fn close_stream(stream: StreamType) -> Result<(), HostError> {
    // SAFETY: the host is passed a number and nothing else.
    let status = unsafe { proxy_close_stream(stream.into()) };
    done(Function::CloseStream, status)
}

/// The value, and the number that writing it takes.
pub(crate) fn shared_data(key: &[u8]) -> Result<(Vec<u8>, u32), HostError> {
    let (mut value, mut cas) = (Slot::EMPTY, 0);
    // SAFETY: pointer and size are those of one slice, which the host only reads; it writes one
    // pointer, one size and one u32 to the addresses of such.
    let status = unsafe {
        proxy_get_shared_data(
            key.as_ptr(),
            key.len(),
            &raw mut value.data,
            &raw mut value.size,
            &raw mut cas,
        )
    };
    // SAFETY: only the call above has written to the slot.
    let value = unsafe { value.take(Function::GetSharedData, status) }?;
    Ok((value, cas))
}

pub(crate) fn set_shared_data(key: &[u8], value: &[u8], cas: u32) -> Result<(), HostError> {
    // SAFETY: pointers and sizes are those of two slices, which the host only reads.
    let status =
        unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas) };
    done(Function::SetSharedData, status)
}

/// The id of the metric.
pub(crate) fn define_metric(kind: MetricType, name: &[u8]) -> Result<u32, HostError> {
    let mut metric = 0;
    // SAFETY: pointer and size are those of one slice, which the host only reads; it writes one u32
    // to the address of one.
    let status =
        unsafe { proxy_define_metric(kind.into(), name.as_ptr(), name.len(), &raw mut metric) };
    done(Function::DefineMetric, status).map(|()| metric)
}

pub(crate) fn increment_metric(metric: u32, offset: i64) -> Result<(), HostError> {
    // SAFETY: the host is passed numbers and nothing else.
    let status = unsafe { proxy_increment_metric(metric, offset) };
    done(Function::IncrementMetric, status)
}

pub(crate) fn set_effective_context(context: u32) -> Result<(), HostError> {
    // SAFETY: the host is passed a number and nothing else.
    let status = unsafe { proxy_set_effective_context(context) };
    done(Function::SetEffectiveContext, status)
}

pub(crate) fn continue_stream(stream: StreamType) -> Result<(), HostError> {
    // SAFETY: the host is passed a number and nothing else.
    let status = unsafe { proxy_continue_stream(stream.into()) };
    done(Function::ContinueStream, status)
}

/// 0 stops the ticks.
pub(crate) fn set_tick_period(millis: u32) -> Result<(), HostError> {
    // SAFETY: the host is passed a number and nothing else.
    let status = unsafe { proxy_set_tick_period_milliseconds(millis) };
    done(Function::SetTickPeriod, status)
}

/// Sends an HTTP request, and gives the token of its answer. `headers` and `trailers` are serialised
/// pairs.
pub(crate) fn http_call(
    cluster: &[u8],
    headers: &[u8],
    body: &[u8],
    trailers: &[u8],
    timeout_millis: u32,
) -> Result<u32, HostError> {
    let mut token = 0;
    // SAFETY: pointers and sizes are those of four slices, which the host only reads; it writes one u32
    // to the address of one.
    let status = unsafe {
        proxy_http_call(
            cluster.as_ptr(),
            cluster.len(),
            headers.as_ptr(),
            headers.len(),
            body.as_ptr(),
            body.len(),
            trailers.as_ptr(),
            trailers.len(),
            timeout_millis,
            &raw mut token,
        )
    };
    done(Function::HttpCall, status).map(|()| token)
}

/// What a gRPC callout is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GrpcMethod<'a> {
    /// A cluster, or a serialised `envoy.config.core.v3.GrpcService`.
    pub(crate) upstream: &'a [u8],
    pub(crate) service: &'a [u8],
    pub(crate) method: &'a [u8],
    /// Serialised pairs.
    pub(crate) metadata: &'a [u8],
}

/// Sends a unary gRPC request, and gives its token.
pub(crate) fn grpc_call(
    to: GrpcMethod<'_>,
    message: &[u8],
    timeout_millis: u32,
) -> Result<u32, HostError> {
    let mut token = 0;
    // SAFETY: pointers and sizes are those of five slices, which the host only reads; it writes one u32
    // to the address of one.
    let status = unsafe {
        proxy_grpc_call(
            to.upstream.as_ptr(),
            to.upstream.len(),
            to.service.as_ptr(),
            to.service.len(),
            to.method.as_ptr(),
            to.method.len(),
            to.metadata.as_ptr(),
            to.metadata.len(),
            message.as_ptr(),
            message.len(),
            timeout_millis,
            &raw mut token,
        )
    };
    done(Function::GrpcCall, status).map(|()| token)
}

/// Opens a gRPC stream, and gives its token.
pub(crate) fn grpc_stream(to: GrpcMethod<'_>) -> Result<u32, HostError> {
    let mut token = 0;
    // SAFETY: pointers and sizes are those of four slices, which the host only reads; it writes one u32
    // to the address of one.
    let status = unsafe {
        proxy_grpc_stream(
            to.upstream.as_ptr(),
            to.upstream.len(),
            to.service.as_ptr(),
            to.service.len(),
            to.method.as_ptr(),
            to.method.len(),
            to.metadata.as_ptr(),
            to.metadata.len(),
            &raw mut token,
        )
    };
    done(Function::GrpcStream, status).map(|()| token)
}

pub(crate) fn grpc_send(token: u32, message: &[u8], is_last: bool) -> Result<(), HostError> {
    // SAFETY: pointer and size are those of one slice, which the host only reads.
    let status = unsafe { proxy_grpc_send(token, message.as_ptr(), message.len(), is_last.into()) };
    done(Function::GrpcSend, status)
}

pub(crate) fn grpc_cancel(token: u32) -> Result<(), HostError> {
    // SAFETY: the host is passed a number and nothing else.
    let status = unsafe { proxy_grpc_cancel(token) };
    done(Function::GrpcCancel, status)
}

pub(crate) fn grpc_close(token: u32) -> Result<(), HostError> {
    // SAFETY: the host is passed a number and nothing else.
    let status = unsafe { proxy_grpc_close(token) };
    done(Function::GrpcClose, status)
}

/// The status of the callout whose answer is being delivered, and its message.
pub(crate) fn callout_status() -> Result<(u32, Vec<u8>), HostError> {
    let (mut code, mut message) = (0, Slot::EMPTY);
    // SAFETY: the host writes one u32, one pointer and one size to the addresses of such.
    let status =
        unsafe { proxy_get_status(&raw mut code, &raw mut message.data, &raw mut message.size) };
    // SAFETY: only the call above has written to the slot.
    let message = unsafe { message.take(Function::GetStatus, status) }?;
    Ok((code, message))
}

/// Where the host puts what it hands over: memory for a slice of `size` bytes, or null.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    let layout = match Layout::array::<u8>(size) {
        Ok(layout) if size > 0 => layout,
        Ok(_) => return ptr::dangling_mut(),
        Err(_) => return ptr::null_mut(),
    };
    // SAFETY: the layout has a size.
    unsafe { alloc(layout) }
}

/// Runs what has to run before anything else in a module.
///
/// A library of WASI that does not call this itself is taken for a command by the linker, which would
/// then run it at every callback anew.
pub(crate) fn run_constructors() {
    #[cfg(target_os = "wasi")]
    {
        unsafe extern "C" {
            fn __wasm_call_ctors();
        }
        // SAFETY: the linker defines it, and `_initialize` calls it once, before any other code.
        unsafe { __wasm_call_ctors() };
    }
}

fn done(function: Function, status: u32) -> Result<(), HostError> {
    match Status::from(status) {
        Status::Ok => Ok(()),
        status => Err(HostError::Refused { function, status }),
    }
}

/// Where the host puts bytes: it asks the module's allocator for memory and hands that over.
struct Slot {
    data: *mut u8,
    size: usize,
}

impl Slot {
    const EMPTY: Self = Self { data: ptr::null_mut(), size: 0 };

    /// Takes over what the host has put here, if `status` is ok.
    ///
    /// # Safety
    ///
    /// The slot was [`Self::EMPTY`], and nothing but one call of `function` has written to it since.
    unsafe fn take(self, function: Function, status: u32) -> Result<Vec<u8>, HostError> {
        done(function, status)?;
        let Self { data, size } = self;
        if size == 0 {
            return Ok(Vec::new());
        }
        if data.is_null() || isize::try_from(size).is_err() {
            return Err(HostError::NoBytes { function, size });
        }
        // SAFETY: by the ABI, `data` is what `proxy_on_memory_allocate(size)` returned for this call,
        // filled: memory of the global allocator for that many bytes, which nobody else frees.
        let bytes = unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(data, size)) };
        Ok(bytes.into_vec())
    }
}

/// Sets a gauge, records in a histogram.
pub(crate) fn record_metric(metric: u32, value: u64) -> Result<(), HostError> {
    // SAFETY: the host is passed numbers and nothing else.
    let status = unsafe { proxy_record_metric(metric, value) };
    done(Function::RecordMetric, status)
}

/// What a counter or a gauge stands at.
pub(crate) fn metric(metric: u32) -> Result<u64, HostError> {
    let mut value = 0;
    // SAFETY: the host writes one u64 to the address of one.
    let status = unsafe { proxy_get_metric(metric, &raw mut value) };
    done(Function::GetMetric, status).map(|()| value)
}

/// The token of the queue, which is made if there is none; what it gets is told to this context.
pub(crate) fn register_shared_queue(name: &[u8]) -> Result<u32, HostError> {
    let mut queue = 0;
    // SAFETY: pointer and size are those of one slice, which the host only reads; it writes one u32
    // to the address of one.
    let status = unsafe { proxy_register_shared_queue(name.as_ptr(), name.len(), &raw mut queue) };
    done(Function::RegisterSharedQueue, status).map(|()| queue)
}

/// The token of the queue that a VM of this id has registered.
pub(crate) fn resolve_shared_queue(vm_id: &[u8], name: &[u8]) -> Result<u32, HostError> {
    let mut queue = 0;
    // SAFETY: pointers and sizes are those of two slices, which the host only reads; it writes one u32
    // to the address of one.
    let status = unsafe {
        proxy_resolve_shared_queue(
            vm_id.as_ptr(),
            vm_id.len(),
            name.as_ptr(),
            name.len(),
            &raw mut queue,
        )
    };
    done(Function::ResolveSharedQueue, status).map(|()| queue)
}

pub(crate) fn enqueue_shared_queue(queue: u32, message: &[u8]) -> Result<(), HostError> {
    // SAFETY: pointer and size are those of one slice, which the host only reads.
    let status = unsafe { proxy_enqueue_shared_queue(queue, message.as_ptr(), message.len()) };
    done(Function::EnqueueSharedQueue, status)
}

pub(crate) fn dequeue_shared_queue(queue: u32) -> Result<Vec<u8>, HostError> {
    let mut message = Slot::EMPTY;
    // SAFETY: the host writes one pointer and one size to the addresses of such.
    let status =
        unsafe { proxy_dequeue_shared_queue(queue, &raw mut message.data, &raw mut message.size) };
    // SAFETY: only the call above has written to the slot.
    unsafe { message.take(Function::DequeueSharedQueue, status) }
}

/// The path is one segment: the host stores NUL as it comes, and parts it where it reads.
pub(crate) fn set_property(path: &[u8], value: &[u8]) -> Result<(), HostError> {
    // SAFETY: pointers and sizes are those of two slices, which the host only reads.
    let status =
        unsafe { proxy_set_property(path.as_ptr(), path.len(), value.as_ptr(), value.len()) };
    done(Function::SetProperty, status)
}

/// What a function of this host, which the ABI does not list, gives back.
pub(crate) fn call_foreign_function(name: &[u8], arguments: &[u8]) -> Result<Vec<u8>, HostError> {
    let mut results = Slot::EMPTY;
    // SAFETY: pointers and sizes are those of two slices, which the host only reads; it writes one
    // pointer and one size to the addresses of such.
    let status = unsafe {
        proxy_call_foreign_function(
            name.as_ptr(),
            name.len(),
            arguments.as_ptr(),
            arguments.len(),
            &raw mut results.data,
            &raw mut results.size,
        )
    };
    // SAFETY: only the call above has written to the slot.
    unsafe { results.take(Function::CallForeignFunction, status) }
}
