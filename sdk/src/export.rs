//! The macros that make a module of a filter, and what the module says of itself.

use tollgate_abi::CallbackKind;

/// Makes a module of a filter: for a crate of type `cdylib` that has nothing but this.
///
/// It defines `_initialize`, and three custom sections for whoever finishes the module: in
/// `tollgate.callbacks` the callbacks that the filter needs, one a line; in `tollgate.name` the
/// filter's [`NAME`](crate::Filter::NAME); in `tollgate.version` the version of the exporting crate.
/// Elsewhere than on wasm32 it defines nothing.
///
/// The README of this crate shows a whole filter.
#[macro_export]
macro_rules! export {
    ($filter:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::__private as sdk;

            $crate::__module!(Module, $filter);

            #[unsafe(no_mangle)]
            extern "C" fn _initialize() {
                sdk::initialize::<Module>();
            }

            #[unsafe(no_mangle)]
            extern "C" fn proxy_abi_version_0_2_1() {}

            use $crate::__export_callbacks;
            sdk::callbacks!(__export_callbacks);

            const CALLBACKS: &[Option<$crate::CallbackKind>] =
                &sdk::list_callbacks::<<Module as sdk::Module>::Plugin>();
            const NAME: &str = <$filter as $crate::Filter>::NAME;
            const VERSION: &str = env!("CARGO_PKG_VERSION");

            #[used]
            #[unsafe(link_section = "tollgate.callbacks")]
            static CALLBACKS_SECTION: [u8; sdk::list_size(CALLBACKS)] = sdk::list(CALLBACKS);
            #[used]
            #[unsafe(link_section = "tollgate.name")]
            static NAME_SECTION: [u8; NAME.len()] = sdk::bytes(NAME);
            #[used]
            #[unsafe(link_section = "tollgate.version")]
            static VERSION_SECTION: [u8; VERSION.len()] = sdk::bytes(VERSION);
        };
    };
}

/// Makes a filter known to an engine that links it natively: gives its
/// [`Registration`](crate::Registration).
#[macro_export]
macro_rules! registration {
    ($filter:ty) => {{
        $crate::__module!(Module, $filter);
        $crate::__private::registration::<Module>()
    }};
}

/// Makes the type that holds the instance of a module, and knows which phases its filter has.
#[doc(hidden)]
#[macro_export]
macro_rules! __module {
    ($module:ident, $filter:ty) => {
        struct $module;

        impl $crate::__private::Handled for $module {
            type Filter = $filter;
            const HANDLERS: $crate::__private::Handlers<$filter> = {
                use $crate::__private::{Handlers, Probe};
                #[allow(unused_imports, reason = "used for the phases that the filter lacks")]
                use $crate::__private::{NoLog, NoRequestHeaders, NoResponseHeaders};

                Handlers {
                    request_headers: Probe::<$filter>::REQUEST_HEADERS,
                    response_headers: Probe::<$filter>::RESPONSE_HEADERS,
                    log: Probe::<$filter>::LOG,
                }
                .not_empty()
            };
        }

        impl $crate::__private::Module for $module {
            type Plugin = $crate::__private::Single<$module>;

            fn with<T>(run: impl FnOnce(&$crate::__private::Instance<Self::Plugin>) -> T) -> T {
                type Instance = $crate::__private::Instance<$crate::__private::Single<$module>>;
                ::std::thread_local! {
                    static INSTANCE: Instance = const { Instance::new() };
                }
                INSTANCE.with(run)
            }
        }
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
