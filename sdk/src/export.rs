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

            const CALLBACKS: &[Option<$crate::CallbackKind>] =
                &<Module as sdk::Module>::HANDLERS.callbacks();
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

/// Makes the type that knows which phases a filter has.
#[doc(hidden)]
#[macro_export]
macro_rules! __module {
    ($module:ident, $filter:ty) => {
        struct $module;

        impl $crate::__private::Module for $module {
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
    };
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
