//! What a filter takes out of its root, on a host of the test's making.

use std::any::Any;
use std::cell::RefCell;

use tollgate::metrics::StatsTags;
use tollgate::{
    ConfigureError, Filter, OnRequestHeaders, Outcome, Registration, RequestHeaders, Root,
    registration,
};
use tollgate_abi::{Call, Callback, Reply};

use tollgate_host_native::on_host;

type Make = Box<dyn FnOnce(&Root) -> Box<dyn Any>>;

thread_local! {
    static MAKE: RefCell<Option<Make>> = const { RefCell::new(None) };
    static MADE: RefCell<Option<Box<dyn Any>>> = const { RefCell::new(None) };
}

/// Only there for its root.
struct Holder;

impl Filter for Holder {
    const NAME: &'static str = "holder";
    type Config = tollgate::config::NoConfig;
    type Stream = ();

    const STATS_TAGS: StatsTags = StatsTags::of(&[&["tenant", "code"]]);

    fn configure(_: Self::Config, root: &Root) -> Result<Self, ConfigureError> {
        let make = MAKE.take().unwrap();
        MADE.set(Some(make(root)));
        Ok(Self)
    }
}

impl OnRequestHeaders for Holder {
    fn on_request_headers(&self, (): &mut (), _: &mut RequestHeaders) -> Outcome {
        Ok(())
    }
}

/// Runs a worker on `host` that takes what `make` makes out of its root, and `test` with it.
pub(crate) fn with_root<M: 'static, T: Send + 'static>(
    host: impl FnMut(&Call) -> Reply + Send + 'static,
    make: impl FnOnce(&Root) -> M + Send + 'static,
    test: impl FnOnce(M) -> T + Send + 'static,
) -> T {
    on_host(host, move || {
        MAKE.set(Some(Box::new(move |root| Box::new(make(root)))));
        let Registration { start, call, .. } = registration!(Holder);
        start();
        call(Callback::ContextCreate { context: 1, parent: 0 });
        assert_eq!(call(Callback::Configure { context: 1, configuration_size: 0 }), 1);
        test(*MADE.take().unwrap().downcast().unwrap())
    })
}
