//! The table of callbacks: each export of a filter that the host calls stands here, once.

use core::fmt;

use crate::enums::{BodyAction, HeadersAction, TrailersAction};
use crate::exports::Arity;
use crate::versions::AbiVersion;

/// Hands the table of callbacks to the macro `$then`, row by row.
///
/// A row is: name, `=`, variant, arguments (always after the context), `->`, what it returns.
///
/// Source: Proxy-Wasm v0.2.1, "Functions exposed by the Wasm module".
#[macro_export]
macro_rules! callbacks {
    ($then:ident) => { $then! {
        /// A context begins: a root (parent 0), or a stream of the root.
        proxy_on_context_create = ContextCreate { parent: u32 } -> Nothing ();
        /// The VM starts.
        proxy_on_vm_start = VmStart { configuration_size: usize } -> Boolean bool;
        /// The plugin gets its configuration.
        proxy_on_configure = Configure { configuration_size: usize } -> Boolean bool;
        /// The tick period of the root is over.
        proxy_on_tick = Tick { } -> Nothing ();
        /// A queue that this root registered has a message.
        proxy_on_queue_ready = QueueReady { queue: u32 } -> Nothing ();
        /// A TCP connection begins.
        proxy_on_new_connection = NewConnection { } -> Trailers u32;
        /// TCP bytes came from the client.
        proxy_on_downstream_data = DownstreamData { size: usize, end_of_stream: bool } -> Body u32;
        /// The client's side of the connection was closed.
        proxy_on_downstream_connection_close = DownstreamConnectionClose { peer: u32 } -> Nothing ();
        /// TCP bytes came from the upstream.
        proxy_on_upstream_data = UpstreamData { size: usize, end_of_stream: bool } -> Body u32;
        /// The upstream's side of the connection was closed.
        proxy_on_upstream_connection_close = UpstreamConnectionClose { peer: u32 } -> Nothing ();
        /// The request headers are there.
        proxy_on_request_headers = RequestHeaders { count: usize, end_of_stream: bool } -> Headers u32;
        /// A part of the request body is there.
        proxy_on_request_body = RequestBody { size: usize, end_of_stream: bool } -> Body u32;
        /// The request trailers are there.
        proxy_on_request_trailers = RequestTrailers { count: usize } -> Trailers u32;
        /// The response headers are there.
        proxy_on_response_headers = ResponseHeaders { count: usize, end_of_stream: bool } -> Headers u32;
        /// A part of the response body is there.
        proxy_on_response_body = ResponseBody { size: usize, end_of_stream: bool } -> Body u32;
        /// The response trailers are there.
        proxy_on_response_trailers = ResponseTrailers { count: usize } -> Trailers u32;
        /// An HTTP callout was answered.
        proxy_on_http_call_response = HttpCallResponse { token: u32, headers: usize, body_size: usize, trailers: usize } -> Nothing ();
        /// A gRPC callout got its initial metadata.
        proxy_on_grpc_receive_initial_metadata = GrpcReceiveInitialMetadata { token: u32, count: u32 } -> Nothing ();
        /// A gRPC callout got a message.
        proxy_on_grpc_receive = GrpcReceive { token: u32, size: usize } -> Nothing ();
        /// A gRPC callout got its trailing metadata.
        proxy_on_grpc_receive_trailing_metadata = GrpcReceiveTrailingMetadata { token: u32, count: u32 } -> Nothing ();
        /// A gRPC callout was closed.
        proxy_on_grpc_close = GrpcClose { token: u32, status: u32 } -> Nothing ();
        /// The host calls a function of the guest's.
        proxy_on_foreign_function = ForeignFunction { function: u32, arguments_size: usize } -> Nothing ();
        /// The context ends; false asks to wait for `proxy_done`.
        proxy_on_done = Done { } -> Boolean bool;
        /// The stream may be logged.
        proxy_on_log = Log { } -> Nothing ();
        /// The context is gone after this.
        proxy_on_delete = Delete { } -> Nothing ();
    } };
}

/// What a callback returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returns {
    /// Nothing.
    Nothing,
    /// 0 or 1.
    Boolean,
    /// A [`HeadersAction`].
    Headers,
    /// A [`BodyAction`].
    Body,
    /// A [`TrailersAction`].
    Trailers,
}

macro_rules! define_callback {
    ($( $(#[$doc:meta])* $name:ident = $variant:ident { $( $field:ident : $type:ty ),* } -> $returns:ident $rust:ty; )*) => {
        /// Which callback.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum CallbackKind { $( $(#[$doc])* $variant, )* }

        impl CallbackKind {
            /// Every callback, in the order of the table.
            pub const ALL: &'static [Self] = &[ $( Self::$variant ),* ];

            /// The name under which a module exports it.
            pub const fn name(self) -> &'static str {
                match self { $( Self::$variant => stringify!($name), )* }
            }

            /// What it returns.
            pub const fn returns(self) -> Returns {
                match self { $( Self::$variant => Returns::$returns, )* }
            }

            /// How many arguments follow the context, in the newest version.
            const fn arguments(self) -> usize {
                match self { $(
                    Self::$variant => { const NAMES: &[&str] = &[ $( stringify!($field) ),* ]; NAMES.len() }
                )* }
            }
        }

        /// A callback with its arguments: what the host says to a context of the guest.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the fields are the arguments of the callback, named as in the table")]
        pub enum Callback { $( $(#[$doc])* $variant { context: u32, $( $field: $type, )* }, )* }

        impl Callback {
            /// Which callback it is.
            pub const fn kind(&self) -> CallbackKind {
                match self { $( Self::$variant { .. } => CallbackKind::$variant, )* }
            }

            /// The context it speaks to.
            pub const fn context(&self) -> u32 {
                match self { $( Self::$variant { context, .. } => *context, )* }
            }

            /// The arguments by name.
            pub fn arguments(&self) -> Vec<(&'static str, String)> {
                match self { $(
                    Self::$variant { context, $( $field, )* } => vec![
                        ("context", context.to_string()),
                        $( (stringify!($field), $field.to_string()), )*
                    ],
                )* }
            }

            /// The callback whose arguments wasm passed so; nothing when they are of another number.
            pub fn from_words(kind: CallbackKind, words: &[u32]) -> Option<Self> {
                let mut words = words.iter().copied();
                let callback = match kind { $(
                    CallbackKind::$variant => Self::$variant {
                        context: words.next()?,
                        $( $field: Argument::from_word(words.next()?)?, )*
                    },
                )* };
                words.next().is_none().then_some(callback)
            }

            /// The arguments as wasm passes them. Sizes above 4 GiB do not exist in wasm32 and saturate.
            pub fn words(&self, abi: AbiVersion) -> CallbackWords {
                let mut words = match self { $(
                    Self::$variant { context, $( $field ),* } => {
                        CallbackWords::of(&[*context, $( Argument::word(*$field) ),*])
                    }
                )* };
                words.truncate(self.kind().arity(abi).params);
                words
            }
        }

        impl fmt::Display for Callback {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self { $(
                    Self::$variant { context, $( $field ),* } => {
                        write!(f, concat!(stringify!($name), "(context={}"), context)?;
                        $( write!(f, concat!(", ", stringify!($field), "={}"), $field)?; )*
                        f.write_str(")")
                    }
                )* }
            }
        }
    };
}

callbacks!(define_callback);

/// The arguments of a callback as wasm passes them, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallbackWords {
    words: [u32; Self::MOST],
    count: usize,
}

impl CallbackWords {
    /// No callback has more arguments; `proxy_on_http_call_response` has the most.
    pub const MOST: usize = 5;

    fn of<const COUNT: usize>(words: &[u32; COUNT]) -> Self {
        const { assert!(COUNT <= Self::MOST) };
        let mut padded = [0; Self::MOST];
        for (padded, &word) in padded.iter_mut().zip(words) {
            *padded = word;
        }
        Self { words: padded, count: COUNT }
    }

    fn truncate(&mut self, count: usize) {
        self.count = self.count.min(count);
    }
}

impl core::ops::Deref for CallbackWords {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        self.words.get(..self.count).unwrap_or_default()
    }
}

impl CallbackKind {
    /// Looks an export up by its name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// How many words it takes, and how many it returns.
    pub fn arity(self, abi: AbiVersion) -> Arity {
        // 0.1.0 does not tell the end of the stream with the headers.
        let untold = abi == AbiVersion::V0_1_0 && self.returns() == Returns::Headers;
        let params = self.arguments().saturating_add(1).saturating_sub(usize::from(untold));
        Arity { params, results: usize::from(self.returns() != Returns::Nothing) }
    }

    /// Shows a returned word as what it means.
    pub fn show_return(self, word: u32) -> String {
        match self.returns() {
            Returns::Nothing => String::from("nothing"),
            Returns::Boolean => (word != 0).to_string(),
            Returns::Headers => HeadersAction::from(word).to_string(),
            Returns::Body => BodyAction::from(word).to_string(),
            Returns::Trailers => TrailersAction::from(word).to_string(),
        }
    }
}

impl fmt::Display for CallbackKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

trait Argument: Sized {
    fn word(self) -> u32;
    fn from_word(word: u32) -> Option<Self>;
}

impl Argument for u32 {
    fn word(self) -> u32 {
        self
    }

    fn from_word(word: u32) -> Option<Self> {
        Some(word)
    }
}

impl Argument for usize {
    fn word(self) -> u32 {
        u32::try_from(self).unwrap_or(u32::MAX)
    }

    fn from_word(word: u32) -> Option<Self> {
        Self::try_from(word).ok()
    }
}

impl Argument for bool {
    fn word(self) -> u32 {
        u32::from(self)
    }

    fn from_word(word: u32) -> Option<Self> {
        Some(word != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_version_hides_the_end_of_the_stream() {
        let headers = Callback::RequestHeaders { context: 2, count: 5, end_of_stream: true };
        assert_eq!(*headers.words(AbiVersion::V0_1_0), [2, 5]);
        assert_eq!(*headers.words(AbiVersion::V0_2_0), [2, 5, 1]);
        assert_eq!(*headers.words(AbiVersion::V0_2_1), [2, 5, 1]);
    }

    #[test]
    fn a_callback_is_read_back_from_its_words() {
        let body = Callback::ResponseBody { context: 2, size: 10, end_of_stream: true };
        let words = body.words(AbiVersion::V0_2_1);
        assert_eq!(Callback::from_words(CallbackKind::ResponseBody, &words), Some(body));
        assert_eq!(Callback::from_words(CallbackKind::ResponseBody, &[2, 10]), None);
        assert_eq!(Callback::from_words(CallbackKind::Log, &words), None);
        let arguments = body.arguments();
        assert_eq!(arguments[0], ("context", "2".to_owned()));
        assert_eq!(arguments[2], ("end_of_stream", "true".to_owned()));
    }

    #[test]
    fn a_callback_reads_as_a_call() {
        let body = Callback::RequestBody { context: 2, size: 10, end_of_stream: false };
        assert_eq!(
            body.to_string(),
            "proxy_on_request_body(context=2, size=10, end_of_stream=false)"
        );
        assert_eq!(body.kind().show_return(1), "stop_iteration_and_buffer");
        assert_eq!(body.kind().show_return(9), "9");
    }
}
