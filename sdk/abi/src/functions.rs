//! The table of host functions: each import of a filter stands here, once.

use crate::enums::Status;
use crate::field::Word;
use crate::versions::Versions;

/// Hands the table of host functions to the macro `$then`, row by row.
///
/// A row is: versions, import module, name, `=`, variant, typed fields with the raw words that carry
/// each, `->`, the answer with the words that say where it goes. Guest and host both read it: the SDK
/// declares its imports from it, the null engine defines them, the host decodes calls by it.
///
/// Source: Proxy-Wasm v0.2.1 and v0.1.0, "Functions implemented in the host"; WASI preview 1.
#[macro_export]
macro_rules! host_functions {
    ($then:ident) => { $then! {
        /// Writes a line to the log of the proxy.
        ANY "env" proxy_log = Log { level: LogLevel [level: u32], message: Vec<u8> [message_data: *const u8, message_size: usize] } -> Nothing [];
        /// Asks which log level is on.
        SINCE_0_2_1 "env" proxy_get_log_level = GetLogLevel { } -> U32 [level: *mut u32];
        /// Asks for the status of the callout whose answer is being delivered.
        ANY "env" proxy_get_status = GetStatus { } -> Status [code: *mut u32, message_data: *mut *mut u8, message_size: *mut usize];
        /// Reads a property.
        ANY "env" proxy_get_property = GetProperty { path: Vec<u8> [path_data: *const u8, path_size: usize] } -> Bytes [value_data: *mut *mut u8, value_size: *mut usize];
        /// Writes a property.
        ANY "env" proxy_set_property = SetProperty { path: Vec<u8> [path_data: *const u8, path_size: usize], value: Vec<u8> [value_data: *const u8, value_size: usize] } -> Nothing [];
        /// Answers the client in place of the upstream.
        ANY "env" proxy_send_local_response = SendLocalResponse { status_code: u32 [status_code: u32], details: Vec<u8> [details_data: *const u8, details_size: usize], body: Vec<u8> [body_data: *const u8, body_size: usize], headers: Serialized [headers_data: *const u8, headers_size: usize], grpc_status: u32 [grpc_status: u32] } -> Nothing [];
        /// Reads a value that all workers share.
        ANY "env" proxy_get_shared_data = GetSharedData { key: Vec<u8> [key_data: *const u8, key_size: usize] } -> Shared [value_data: *mut *mut u8, value_size: *mut usize, cas: *mut u32];
        /// Writes a value that all workers share, if `cas` still holds.
        ANY "env" proxy_set_shared_data = SetSharedData { key: Vec<u8> [key_data: *const u8, key_size: usize], value: Vec<u8> [value_data: *const u8, value_size: usize], cas: u32 [cas: u32] } -> Nothing [];
        /// Creates a queue, or takes it over.
        ANY "env" proxy_register_shared_queue = RegisterSharedQueue { name: Vec<u8> [name_data: *const u8, name_size: usize] } -> U32 [queue: *mut u32];
        /// Looks a queue up by the VM that registered it and by its name.
        ANY "env" proxy_resolve_shared_queue = ResolveSharedQueue { vm_id: Vec<u8> [vm_id_data: *const u8, vm_id_size: usize], name: Vec<u8> [name_data: *const u8, name_size: usize] } -> U32 [queue: *mut u32];
        /// Puts a message at the end of a queue.
        ANY "env" proxy_enqueue_shared_queue = EnqueueSharedQueue { queue: u32 [queue: u32], message: Vec<u8> [message_data: *const u8, message_size: usize] } -> Nothing [];
        /// Takes a message from the front of a queue.
        ANY "env" proxy_dequeue_shared_queue = DequeueSharedQueue { queue: u32 [queue: u32] } -> Bytes [message_data: *mut *mut u8, message_size: *mut usize];
        /// Reads the first line of a header.
        ANY "env" proxy_get_header_map_value = GetHeaderMapValue { map: MapType [map: u32], name: Vec<u8> [name_data: *const u8, name_size: usize] } -> Bytes [value_data: *mut *mut u8, value_size: *mut usize];
        /// Adds a header line.
        ANY "env" proxy_add_header_map_value = AddHeaderMapValue { map: MapType [map: u32], name: Vec<u8> [name_data: *const u8, name_size: usize], value: Vec<u8> [value_data: *const u8, value_size: usize] } -> Nothing [];
        /// Replaces every line of a header by one.
        ANY "env" proxy_replace_header_map_value = ReplaceHeaderMapValue { map: MapType [map: u32], name: Vec<u8> [name_data: *const u8, name_size: usize], value: Vec<u8> [value_data: *const u8, value_size: usize] } -> Nothing [];
        /// Removes every line of a header.
        ANY "env" proxy_remove_header_map_value = RemoveHeaderMapValue { map: MapType [map: u32], name: Vec<u8> [name_data: *const u8, name_size: usize] } -> Nothing [];
        /// Reads a whole header map.
        ANY "env" proxy_get_header_map_pairs = GetHeaderMapPairs { map: MapType [map: u32] } -> Bytes [pairs_data: *mut *mut u8, pairs_size: *mut usize];
        /// Replaces a whole header map.
        ANY "env" proxy_set_header_map_pairs = SetHeaderMapPairs { map: MapType [map: u32], pairs: Serialized [pairs_data: *const u8, pairs_size: usize] } -> Nothing [];
        /// Asks how many bytes a header map has.
        ANY "env" proxy_get_header_map_size = GetHeaderMapSize { map: MapType [map: u32] } -> Size [size: *mut usize];
        /// Reads a part of a buffer.
        ANY "env" proxy_get_buffer_bytes = GetBufferBytes { buffer: BufferType [buffer: u32], start: u32 [start: u32], max_size: u32 [max_size: u32] } -> Bytes [data: *mut *mut u8, size: *mut usize];
        /// Replaces a part of a buffer.
        ANY "env" proxy_set_buffer_bytes = SetBufferBytes { buffer: BufferType [buffer: u32], start: u32 [start: u32], size: u32 [size: u32], value: Vec<u8> [value_data: *const u8, value_size: usize] } -> Nothing [];
        /// Asks how many bytes a buffer has.
        ANY "env" proxy_get_buffer_status = GetBufferStatus { buffer: BufferType [buffer: u32] } -> Buffer [size: *mut usize, flags: *mut u32];
        /// Sends an HTTP request to a cluster.
        ANY "env" proxy_http_call = HttpCall { upstream: Vec<u8> [upstream_data: *const u8, upstream_size: usize], headers: Serialized [headers_data: *const u8, headers_size: usize], body: Vec<u8> [body_data: *const u8, body_size: usize], trailers: Serialized [trailers_data: *const u8, trailers_size: usize], timeout_millis: u32 [timeout_millis: u32] } -> U32 [token: *mut u32];
        /// Sends a unary gRPC request to a cluster.
        ANY "env" proxy_grpc_call = GrpcCall { upstream: Vec<u8> [upstream_data: *const u8, upstream_size: usize], service: Vec<u8> [service_data: *const u8, service_size: usize], method: Vec<u8> [method_data: *const u8, method_size: usize], metadata: Serialized [metadata_data: *const u8, metadata_size: usize], message: Vec<u8> [message_data: *const u8, message_size: usize], timeout_millis: u32 [timeout_millis: u32] } -> U32 [token: *mut u32];
        /// Opens a gRPC stream to a cluster.
        ANY "env" proxy_grpc_stream = GrpcStream { upstream: Vec<u8> [upstream_data: *const u8, upstream_size: usize], service: Vec<u8> [service_data: *const u8, service_size: usize], method: Vec<u8> [method_data: *const u8, method_size: usize], metadata: Serialized [metadata_data: *const u8, metadata_size: usize] } -> U32 [token: *mut u32];
        /// Sends a message on a gRPC stream.
        ANY "env" proxy_grpc_send = GrpcSend { token: u32 [token: u32], message: Vec<u8> [message_data: *const u8, message_size: usize], end_of_stream: u32 [end_of_stream: u32] } -> Nothing [];
        /// Gives up a gRPC call or stream.
        ANY "env" proxy_grpc_cancel = GrpcCancel { token: u32 [token: u32] } -> Nothing [];
        /// Ends our side of a gRPC stream.
        ANY "env" proxy_grpc_close = GrpcClose { token: u32 [token: u32] } -> Nothing [];
        /// Sets the time between two ticks; 0 stops them.
        ANY "env" proxy_set_tick_period_milliseconds = SetTickPeriod { period_millis: u32 [period_millis: u32] } -> Nothing [];
        /// Asks for the wall clock, in nanoseconds since the Unix epoch.
        ANY "env" proxy_get_current_time_nanoseconds = GetCurrentTime { } -> U64 [nanoseconds: *mut u64];
        /// Defines a metric.
        ANY "env" proxy_define_metric = DefineMetric { kind: MetricType [kind: u32], name: Vec<u8> [name_data: *const u8, name_size: usize] } -> U32 [metric: *mut u32];
        /// Adds to a counter or a gauge.
        ANY "env" proxy_increment_metric = IncrementMetric { metric: u32 [metric: u32], offset: i64 [offset: i64] } -> Nothing [];
        /// Sets a gauge, or records a value in a histogram.
        ANY "env" proxy_record_metric = RecordMetric { metric: u32 [metric: u32], value: u64 [value: u64] } -> Nothing [];
        /// Reads a counter or a gauge.
        ANY "env" proxy_get_metric = GetMetric { metric: u32 [metric: u32] } -> U64 [value: *mut u64];
        /// Makes another context the one that host calls act on.
        ANY "env" proxy_set_effective_context = SetEffectiveContext { context: u32 [context: u32] } -> Nothing [];
        /// Ends a context whose `proxy_on_done` asked to wait.
        ANY "env" proxy_done = Done { } -> Nothing [];
        /// Calls a function that only some hosts have.
        ANY "env" proxy_call_foreign_function = CallForeignFunction { name: Vec<u8> [name_data: *const u8, name_size: usize], arguments: Vec<u8> [arguments_data: *const u8, arguments_size: usize] } -> Bytes [results_data: *mut *mut u8, results_size: *mut usize];
        /// Lets a held stream go on.
        SINCE_0_2_0 "env" proxy_continue_stream = ContinueStream { stream: StreamType [stream: u32] } -> Nothing [];
        /// Closes a stream.
        SINCE_0_2_0 "env" proxy_close_stream = CloseStream { stream: StreamType [stream: u32] } -> Nothing [];
        /// Lets a held request go on.
        UNTIL_0_1_0 "env" proxy_continue_request = ContinueRequest { } -> Nothing [];
        /// Lets a held response go on.
        UNTIL_0_1_0 "env" proxy_continue_response = ContinueResponse { } -> Nothing [];
        /// Has the route chosen anew.
        UNTIL_0_1_0 "env" proxy_clear_route_cache = ClearRouteCache { } -> Nothing [];
        /// Reads the configuration of the plugin.
        UNTIL_0_1_0 "env" proxy_get_configuration = GetConfiguration { } -> Bytes [data: *mut *mut u8, size: *mut usize];

        /// Writes to a file; 1 and 2 go to the log.
        ANY "wasi_snapshot_preview1" fd_write = FdWrite { fd: u32 [fd: u32], data: Gathered [iovs: *const u8, iovs_len: usize] } -> Size [written: *mut usize];
        /// Writes to a place in a file; 1 and 2 go to the log, wherever the place is.
        ANY "wasi_snapshot_preview1" fd_pwrite = FdPwrite { fd: u32 [fd: u32], data: Gathered [iovs: *const u8, iovs_len: usize], offset: u64 [offset: u64] } -> Size [written: *mut usize];
        /// Fills a buffer with random bytes.
        ANY "wasi_snapshot_preview1" random_get = RandomGet { buffer: Destination [buffer_data: *mut u8, buffer_size: usize] } -> Fill [];
        /// Reads a clock.
        ANY "wasi_snapshot_preview1" clock_time_get = ClockTimeGet { clock: u32 [clock: u32], precision: u64 [precision: u64] } -> U64 [nanoseconds: *mut u64];
        /// Asks for the resolution of a clock.
        ANY "wasi_snapshot_preview1" clock_res_get = ClockResGet { clock: u32 [clock: u32] } -> U64 [nanoseconds: *mut u64];
        /// Asks how many environment variables there are, and how many bytes they have.
        ANY "wasi_snapshot_preview1" environ_sizes_get = EnvironSizesGet { } -> Sizes [count: *mut usize, size: *mut usize];
        /// Reads the environment.
        ANY "wasi_snapshot_preview1" environ_get = EnvironGet { } -> Strings [pointers: *mut *mut u8, text: *mut u8];
        /// Asks how many arguments there are, and how many bytes they have.
        ANY "wasi_snapshot_preview1" args_sizes_get = ArgsSizesGet { } -> Sizes [count: *mut usize, size: *mut usize];
        /// Reads the arguments.
        ANY "wasi_snapshot_preview1" args_get = ArgsGet { } -> Strings [pointers: *mut *mut u8, text: *mut u8];
        /// Ends the program.
        ANY "wasi_snapshot_preview1" proc_exit = ProcExit { code: u32 [code: u32] } -> Nothing [];
    } };
}

macro_rules! define_function {
    ($( $(#[$doc:meta])* $versions:ident $module:literal $name:ident = $variant:ident { $( $field:ident : $kind:ty [ $($word:ident : $word_type:ty),* ] ),* } -> $answer:ident [ $($slot:ident : $slot_type:ty),* ]; )*) => {
        /// A host function of the table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Function { $( $(#[$doc])* $variant, )* }

        impl Function {
            /// Every function, in the order of the table.
            pub const ALL: &'static [Self] = &[ $( Self::$variant ),* ];

            /// The name under which a module imports it.
            pub const fn name(self) -> &'static str {
                match self { $( Self::$variant => stringify!($name), )* }
            }

            /// The import module it belongs to.
            pub const fn module(self) -> &'static str {
                match self { $( Self::$variant => $module, )* }
            }

            /// Which versions of the ABI know it.
            pub const fn versions(self) -> Versions {
                match self { $( Self::$variant => Versions::$versions, )* }
            }

            /// For each raw word, whether wasm passes it in 64 bits.
            pub const fn words(self) -> &'static [bool] {
                match self { $( Self::$variant => &[ $($( <$word_type as Word>::WIDE, )*)* $( <$slot_type as Word>::WIDE, )* ], )* }
            }

            /// The names of the raw words.
            pub const fn word_names(self) -> &'static [&'static str] {
                match self { $( Self::$variant => &[ $($( stringify!($word), )*)* $( stringify!($slot), )* ], )* }
            }

            /// How many of the words are arguments; those after say where the answer goes.
            pub(crate) const fn arguments(self) -> usize {
                match self { $( Self::$variant => { const NAMES: &[&str] = &[ $($( stringify!($word), )*)* ]; NAMES.len() } )* }
            }
        }
    };
}

host_functions!(define_function);

impl Function {
    /// Looks an import up. `wasi_unstable` is the older name of `wasi_snapshot_preview1`.
    pub fn from_import(module: &str, name: &str) -> Option<Self> {
        let module = if module == "wasi_unstable" { "wasi_snapshot_preview1" } else { module };
        Self::ALL.iter().copied().find(|f| f.name() == name && f.module() == module)
    }

    /// Whether it returns a status. All do but `proc_exit`, which does not return.
    pub const fn returns_status(self) -> bool {
        !matches!(self, Self::ProcExit)
    }

    /// What it returns when a pointer or a length leaves the guest's memory: of WASI, `EFAULT`.
    ///
    /// Source: proxy-wasm-cpp-host, `exports.cc`.
    pub fn status_of_faults(self) -> Status {
        if self.module() == "env" { Status::InvalidMemoryAccess } else { Status::Unknown(21) }
    }

    /// Whether a module may call it before its contexts exist (`_initialize`, `main`, `_start`): Envoy
    /// traps on every other function there.
    ///
    /// Source: proxy-wasm-cpp-host, `setRestrictedCallback`; each function was called there on Envoy
    /// 1.40.
    pub fn is_allowed_at_start(self) -> bool {
        match self.module() {
            "env" => matches!(self, Self::Log),
            _ => !matches!(self, Self::ProcExit),
        }
    }
}

impl core::fmt::Display for Function {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AbiVersion;

    #[test]
    fn a_function_stands_once_in_the_table() {
        for (index, function) in Function::ALL.iter().enumerate() {
            let twin = Function::ALL.iter().skip(index + 1).find(|f| f.name() == function.name());
            assert_eq!(twin, None, "{function} stands twice");
        }
    }

    #[test]
    fn an_import_is_found_by_module_and_name() {
        let check = |module, name, expected| {
            assert_eq!(Function::from_import(module, name), expected, "{module}.{name}");
        };
        check("env", "proxy_log", Some(Function::Log));
        check("env", "fd_write", None);
        check("wasi_snapshot_preview1", "fd_write", Some(Function::FdWrite));
        check("wasi_unstable", "fd_write", Some(Function::FdWrite));
        check("env", "proxy_get_secret", None);
    }

    #[test]
    fn the_versions_differ_in_seven_functions() {
        let only_in_some: Vec<_> = Function::ALL
            .iter()
            .filter(|f| !AbiVersion::ALL.iter().all(|&v| f.versions().contain(v)))
            .map(|f| f.name())
            .collect();
        assert_eq!(
            only_in_some,
            [
                "proxy_get_log_level",
                "proxy_continue_stream",
                "proxy_close_stream",
                "proxy_continue_request",
                "proxy_continue_response",
                "proxy_clear_route_cache",
                "proxy_get_configuration",
            ]
        );
    }

    #[test]
    fn words_tell_their_width() {
        assert_eq!(Function::IncrementMetric.words(), [false, true]);
        assert_eq!(Function::ClockTimeGet.words(), [false, true, false]);
        assert_eq!(Function::HttpCall.words().len(), 10);
        assert_eq!(Function::HttpCall.arguments(), 9);
    }
}
