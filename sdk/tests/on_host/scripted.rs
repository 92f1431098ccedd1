//! A host whose every answer a test gives, and a worker on it.

use std::sync::{Arc, Mutex};

use tollgate::Registration;
use tollgate_abi::{Answer, Call, Callback, Function, Reply};

use tollgate_host_native::on_host;

/// Configures a worker, runs `callbacks` on a stream of it, and gives what each returned, with what the
/// host was asked meanwhile. The host answers as `answer` says, and where that is nothing, kindly.
pub(crate) fn play(
    registration: Registration,
    mut answer: impl FnMut(&Call) -> Option<Reply> + Send + 'static,
    callbacks: Vec<Callback>,
) -> Vec<(u32, Vec<String>)> {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&calls);
    let host = move |call: &Call| {
        seen.lock().unwrap().push(call.to_string());
        answer(call).unwrap_or_else(|| match call.function() {
            Function::GetLogLevel => Reply::Done(Answer::U32(0)),
            Function::GetHeaderMapPairs => Reply::Done(Answer::Bytes(Vec::new())),
            _ => Reply::OK,
        })
    };
    on_host(host, move || {
        let Registration { start, call, .. } = registration;
        start();
        call(Callback::ContextCreate { context: 1, parent: 0 });
        assert_eq!(call(Callback::Configure { context: 1, configuration_size: 0 }), 1);
        call(Callback::ContextCreate { context: 2, parent: 1 });
        calls.lock().unwrap().clear();
        let run = |callback| (call(callback), std::mem::take(&mut *calls.lock().unwrap()));
        callbacks.into_iter().map(run).collect()
    })
}

/// A filter that keeps nothing and takes no configuration.
macro_rules! filter {
    ($name:ident, $stream:ty) => {
        struct $name;

        impl tollgate::Filter for $name {
            const NAME: &'static str = stringify!($name);
            type Config = tollgate::config::NoConfig;
            type Stream = $stream;

            fn configure(
                _: Self::Config,
                _: &tollgate::Root,
            ) -> Result<Self, tollgate::ConfigureError> {
                Ok(Self)
            }
        }
    };
}

pub(crate) use filter;
