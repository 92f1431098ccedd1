//! The macros that make a module of a filter, and what the module says of itself.

use tollgate_abi::CallbackKind;

/// Makes a module of a filter, or of several: for a crate of type `cdylib` that has nothing but this.
///
/// ```text
/// tollgate::export!(Tenants);
/// // Several filters, one of which runs: that of the plugin's root id.
/// tollgate::export!("bundle" = { "tenants" => Tenants, "stamp" => Stamp });
/// // A chain, which the proxy calls once for all of its filters. Its configuration is an object with
/// // the configuration of each under its name.
/// tollgate::export!("edge" = [Tenants, Stamp]);
/// // Both: a root id may stand for a chain.
/// tollgate::export!("bundle" = { "stamp" => Stamp, "edge" => [Tenants, Stamp] });
/// ```
///
/// It defines `_initialize`, and four custom sections for whoever finishes the module: in
/// `tollgate.callbacks` the callbacks that the filters need, one a line; in `tollgate.name` the
/// name of the filter or of the module; in `tollgate.version` the version of the exporting crate; in
/// `tollgate.needs` the settings that the plugin needs.
/// Elsewhere than on wasm32 it defines nothing.
///
/// The README of this crate shows a whole filter.
#[macro_export]
macro_rules! export {
    ($($module:tt)*) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::__private as sdk;

            $crate::__module!(Module, $($module)*);

            #[unsafe(no_mangle)]
            extern "C" fn _initialize() {
                sdk::initialize::<Module>();
            }

            #[unsafe(no_mangle)]
            extern "C" fn proxy_abi_version_0_2_1() {}

            use $crate::__export_callbacks;
            sdk::callbacks!(__export_callbacks);

            /// Not in what ships: where the JSON Schema of the configuration lies, in a module that
            /// is built with debug assertions.
            #[cfg(debug_assertions)]
            #[unsafe(no_mangle)]
            extern "C" fn tollgate_config_schema() -> u64 {
                sdk::schema::<<Module as sdk::Module>::Plugin>()
            }

            /// Nor this: where the labels of the metrics lie.
            #[cfg(debug_assertions)]
            #[unsafe(no_mangle)]
            extern "C" fn tollgate_stats_tags() -> u64 {
                sdk::stats_tags::<<Module as sdk::Module>::Plugin>()
            }

            const CALLBACKS: &[Option<$crate::CallbackKind>] =
                &sdk::list_callbacks::<<Module as sdk::Module>::Plugin>();
            const NAME: &str = <Module as sdk::Module>::NAME;
            const VERSION: &str = env!("CARGO_PKG_VERSION");

            #[used]
            #[unsafe(link_section = "tollgate.callbacks")]
            static CALLBACKS_SECTION: [u8; sdk::list_size(CALLBACKS)] = sdk::list(CALLBACKS);
            #[used]
            #[unsafe(link_section = "tollgate.name")]
            static NAME_SECTION: [u8; NAME.len()] = sdk::bytes(NAME);
            const NEEDS: &str = sdk::needs::<<Module as sdk::Module>::Plugin>();
            #[used]
            #[unsafe(link_section = "tollgate.needs")]
            static NEEDS_SECTION: [u8; NEEDS.len()] = sdk::bytes(NEEDS);
            #[used]
            #[unsafe(link_section = "tollgate.version")]
            static VERSION_SECTION: [u8; VERSION.len()] = sdk::bytes(VERSION);
        };
    };
}

/// Makes a filter, or several as in [`export!`], known to an engine that links it natively: gives its
/// [`Registration`](crate::Registration).
#[macro_export]
macro_rules! registration {
    ($($module:tt)*) => {{
        $crate::__module!(Module, $($module)*);
        $crate::__private::registration::<Module>()
    }};
}

/// Makes the type that holds the instance of a module.
#[doc(hidden)]
#[macro_export]
macro_rules! __module {
    ($module:ident, $name:literal = { $($rooted:tt)+ }) => {
        struct Part<At>(::std::marker::PhantomData<At>);
        $crate::__rooted!(Part, $crate::__private::First; $($rooted)+);
        $crate::__instance!(
            $module,
            $name,
            $crate::__one_of!(Part, $crate::__private::First; $($rooted)+)
        );
    };
    ($module:ident, $name:literal = [ $($filter:ty),+ $(,)? ]) => {
        struct Part<At>(::std::marker::PhantomData<At>);
        $crate::__links!(Part, $crate::__private::First, $crate::__private::First; $($filter,)+);
        $crate::__instance!(
            $module,
            $name,
            $crate::__chain!(
                Part, $crate::__private::First, $crate::__private::First; $($filter,)+
            )
        );
    };
    ($module:ident, $filter:ty) => {
        struct Part<At>(::std::marker::PhantomData<At>);
        $crate::__handled!(Part, $crate::__private::First, $filter);
        $crate::__instance!(
            $module,
            <$filter as $crate::Filter>::NAME,
            $crate::__private::Single<Part<$crate::__private::First>>
        );
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __instance {
    ($module:ident, $name:expr, $plugin:ty) => {
        struct $module;

        impl $crate::__private::Module for $module {
            const NAME: &'static str = $name;
            type Plugin = $plugin;

            fn with<T>(run: impl FnOnce(&$crate::__private::Instance<Self::Plugin>) -> T) -> T {
                type Instance = $crate::__private::Instance<$plugin>;
                ::std::thread_local! {
                    static INSTANCE: Instance = const { Instance::new() };
                }
                INSTANCE.with(run)
            }
        }
    };
}

/// Has a type know the phases of a filter.
#[doc(hidden)]
#[macro_export]
macro_rules! __handled {
    ($part:ident, $at:ty, $filter:ty) => {
        impl $crate::__private::Handled for $part<$at> {
            type Filter = $filter;
            const HANDLERS: $crate::__private::Handlers<$filter> = {
                use $crate::__private::{BodyPhases, Handlers, Probe};
                #[allow(unused_imports, reason = "used for the phases that the filter lacks")]
                use $crate::__private::{
                    NoBackground, NoConnection, NoDownstreamClose, NoDownstreamData, NoExchange,
                    NoLog, NoMessages, NoRequestBody, NoRequestChunk, NoRequestHeaders,
                    NoRequestTrailers, NoResponseBody, NoResponseChunk, NoResponseHeaders,
                    NoResponseTrailers, NoUpstreamClose, NoUpstreamData,
                };

                Handlers {
                    request_headers: Probe::<$filter>::REQUEST_HEADERS,
                    request_body: BodyPhases {
                        whole: Probe::<$filter>::REQUEST_BODY,
                        chunks: Probe::<$filter>::REQUEST_CHUNKS,
                    },
                    request_trailers: Probe::<$filter>::REQUEST_TRAILERS,
                    response_headers: Probe::<$filter>::RESPONSE_HEADERS,
                    response_body: BodyPhases {
                        whole: Probe::<$filter>::RESPONSE_BODY,
                        chunks: Probe::<$filter>::RESPONSE_CHUNKS,
                    },
                    response_trailers: Probe::<$filter>::RESPONSE_TRAILERS,
                    connection: Probe::<$filter>::CONNECTION,
                    downstream_data: Probe::<$filter>::DOWNSTREAM_DATA,
                    upstream_data: Probe::<$filter>::UPSTREAM_DATA,
                    downstream_close: Probe::<$filter>::DOWNSTREAM_CLOSE,
                    upstream_close: Probe::<$filter>::UPSTREAM_CLOSE,
                    log: Probe::<$filter>::LOG,
                    exchange: Probe::<$filter>::EXCHANGE,
                    background: Probe::<$filter>::BACKGROUND,
                    messages: Probe::<$filter>::MESSAGES,
                }
                .not_empty()
                .compatible()
            };
        }
    };
}

/// Has types know what a root id stands for, each at its place.
#[doc(hidden)]
#[macro_export]
macro_rules! __rooted {
    ($part:ident, $at:ty;) => {};
    ($part:ident, $at:ty;
     $root_id:literal => [ $($filter:ty),+ $(,)? ] $(, $($rest:tt)*)?) => {
        $crate::__links!($part, $at, $crate::__private::First; $($filter,)+);
        impl $crate::__private::Rooted for $part<$at> {
            const ROOT_ID: &'static str = $root_id;
            type Plugin = $crate::__chain!($part, $at, $crate::__private::First; $($filter,)+);
        }
        $crate::__rooted!($part, $crate::__private::Next<$at>; $($($rest)*)?);
    };
    ($part:ident, $at:ty; $root_id:literal => $filter:ty $(, $($rest:tt)*)?) => {
        $crate::__handled!($part, $at, $filter);
        impl $crate::__private::Rooted for $part<$at> {
            const ROOT_ID: &'static str = $root_id;
            type Plugin = $crate::__private::Single<$part<$at>>;
        }
        $crate::__rooted!($part, $crate::__private::Next<$at>; $($($rest)*)?);
    };
}

/// Has types know the phases of the filters of a chain.
#[doc(hidden)]
#[macro_export]
macro_rules! __links {
    ($part:ident, $at:ty, $place:ty;) => {};
    ($part:ident, $at:ty, $place:ty; $filter:ty, $($rest:ty,)*) => {
        $crate::__handled!($part, ($at, $place), $filter);
        $crate::__links!($part, $at, $crate::__private::Next<$place>; $($rest,)*);
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __one_of {
    ($part:ident, $at:ty;) => { $crate::__private::Nothing };
    ($part:ident, $at:ty; $root_id:literal => [ $($filter:ty),+ $(,)? ] $(, $($rest:tt)*)?) => {
        $crate::__private::OneOf<
            $part<$at>,
            $crate::__one_of!($part, $crate::__private::Next<$at>; $($($rest)*)?),
        >
    };
    ($part:ident, $at:ty; $root_id:literal => $filter:ty $(, $($rest:tt)*)?) => {
        $crate::__private::OneOf<
            $part<$at>,
            $crate::__one_of!($part, $crate::__private::Next<$at>; $($($rest)*)?),
        >
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __chain {
    ($part:ident, $at:ty, $place:ty;) => { $crate::__private::End };
    ($part:ident, $at:ty, $place:ty; $filter:ty, $($rest:ty,)*) => {
        $crate::__private::Chain<
            $crate::__private::Single<$part<($at, $place)>>,
            $crate::__chain!($part, $at, $crate::__private::Next<$place>; $($rest,)*),
        >
    };
}

/// Exports the callbacks of the ABI, each of which hands its arguments to the instance of `Module`.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_callbacks {
    ($( $(#[$doc:meta])* $name:ident = $variant:ident { $( $field:ident : $type:ty ),* } -> $returns:ident $rust:ty; )*) => { $(
        #[unsafe(no_mangle)]
        extern "C" fn $name(context: u32, $( $field: u32 ),*) -> <$rust as sdk::Word>::Raw {
            let callback = $crate::Callback::$variant {
                context,
                $( $field: <$type as sdk::Word>::from_raw($field) ),*
            };
            <$rust as sdk::Word>::returned(sdk::call::<Module>(callback))
        }
    )* };
}

/// How a callback's argument or result crosses the border. A host may pass any number for a boolean.
pub trait Word {
    /// What crosses.
    type Raw;

    /// An argument.
    fn from_raw(raw: u32) -> Self;

    /// A result.
    fn returned(word: u32) -> Self::Raw;
}

impl Word for u32 {
    type Raw = Self;

    fn from_raw(raw: u32) -> Self {
        raw
    }

    fn returned(word: u32) -> Self {
        word
    }
}

impl Word for usize {
    type Raw = u32;

    fn from_raw(raw: u32) -> Self {
        // Where a pointer has fewer bits than a word there is no wasm32.
        Self::try_from(raw).unwrap_or(Self::MAX)
    }

    fn returned(word: u32) -> u32 {
        word
    }
}

impl Word for bool {
    type Raw = u32;

    fn from_raw(raw: u32) -> Self {
        raw != 0
    }

    fn returned(word: u32) -> u32 {
        word
    }
}

impl Word for () {
    type Raw = ();

    fn from_raw(_: u32) {}

    fn returned(_: u32) {}
}

/// The bytes that [`list`] gives for these callbacks.
pub const fn list_size(mut callbacks: &[Option<CallbackKind>]) -> usize {
    let mut size = 0_usize;
    while let [first, rest @ ..] = callbacks {
        if let Some(callback) = first {
            size = size.saturating_add(callback.name().len()).saturating_add(1);
        }
        callbacks = rest;
    }
    size
}

/// The names of the callbacks, each ended by a newline.
#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "evaluated by the compiler: what is out of bounds does not build"
)]
pub const fn list<const SIZE: usize>(mut callbacks: &[Option<CallbackKind>]) -> [u8; SIZE] {
    let (mut list, mut at) = ([b'\n'; SIZE], 0);
    while let [first, rest @ ..] = callbacks {
        if let Some(callback) = first {
            let mut name = callback.name().as_bytes();
            while let [byte, after @ ..] = name {
                list[at] = *byte;
                at += 1;
                name = after;
            }
            at += 1;
        }
        callbacks = rest;
    }
    list
}

/// The bytes of a text.
///
/// # Panics
///
/// While compiling, when they are not `SIZE`.
pub const fn bytes<const SIZE: usize>(text: &str) -> [u8; SIZE] {
    assert!(text.len() == SIZE);
    match text.as_bytes().first_chunk() {
        Some(bytes) => *bytes,
        None => [0; SIZE],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callbacks_are_listed_one_a_line() {
        const CALLBACKS: &[Option<CallbackKind>] =
            &[Some(CallbackKind::Log), None, Some(CallbackKind::Delete)];
        const LIST: [u8; list_size(CALLBACKS)] = list(CALLBACKS);
        assert_eq!(&LIST, b"proxy_on_log\nproxy_on_delete\n");
    }

    #[test]
    fn no_callbacks_are_no_bytes() {
        assert_eq!(list_size(&[None]), 0);
        assert_eq!(list::<0>(&[None]), [0; 0]);
    }

    #[test]
    fn a_text_is_its_bytes() {
        assert_eq!(bytes::<9>("ratelimit"), *b"ratelimit");
    }
}
