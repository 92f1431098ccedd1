//! The labels of the filter: also the test reads this file, to tell Envoy of them.

use tollgate::metrics::Labels;

/// Who asks, and how.
pub(crate) struct ByUser;

impl Labels for ByUser {
    const NAMES: &'static [&'static str] = &["user", "http_method"];
    type Values<'a> = (&'a [u8], &'a [u8]);
}
