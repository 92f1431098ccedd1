//! A filter that counts requests by who sends them, to see what Envoy makes of the labels.
//!
//! The user is the header `x-user`, in hexadecimal digits, so that it can be any bytes.
#![cfg(target_arch = "wasm32")]

mod labels;

use labels::ByUser;
use tollgate::metrics::{Budget, Counters, Gauges, Histograms, Labels, StatsTags};
use tollgate::{ConfigureError, Filter, OnRequestHeaders, Outcome, RequestHeaders, Root};

struct Metered {
    requests: Counters<ByUser>,
    seen: Gauges<ByUser>,
    sizes: Histograms<ByUser>,
}

impl Filter for Metered {
    const NAME: &'static str = "metered";
    type Config = tollgate::config::NoConfig;
    type Stream = ();

    const STATS_TAGS: StatsTags = StatsTags::of(&[ByUser::NAMES]);

    fn configure(_: Self::Config, root: &Root) -> Result<Self, ConfigureError> {
        Ok(Self {
            requests: root.counters("tollgate_metered_requests", Budget::new(20)),
            seen: root.gauges("tollgate_metered_seen", Budget::new(20)),
            sizes: root.histograms("tollgate_metered_sizes", Budget::new(2)),
        })
    }
}

impl OnRequestHeaders for Metered {
    fn on_request_headers(&self, (): &mut (), request: &mut RequestHeaders) -> Outcome {
        if let Ok(headers) = request.read()
            && let Ok(user) = headers.exactly_one("x-user")
        {
            let user = bytes(user);
            let labels = (user.as_slice(), headers.method().unwrap_or_default());
            self.requests.increment(labels);
            self.seen.add(labels, 2);
            self.seen.add(labels, -1);
            self.sizes.record(labels, 7);
        }
        Ok(())
    }
}

/// The bytes that hexadecimal digits stand for.
fn bytes(digits: &[u8]) -> Vec<u8> {
    let digit =
        |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, _) = digits.as_chunks();
    let byte = |[high, low]: &[u8; 2]| Some((digit(*high)? << 4) | digit(*low)?);
    pairs.iter().filter_map(byte).collect()
}

tollgate::export!(Metered);
