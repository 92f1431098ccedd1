//! A filter that uses all there is of state and metrics, beside the rate limit in a chain.

use std::cell::Cell;
use std::time::Duration;

use tollgate::config::NoConfig;
use tollgate::metrics::{Budget, Counters, Gauges, Histograms, Labels, StatsTags};
use tollgate::state::{
    Change, HashKey, Inbox, Lease, LocalCache, Outcome as Place, Queue, Shape, Shared, Table,
    WhenFull,
};
use tollgate::{
    Clock, ConfigureError, Filter, Headers, LocalReply, LoggedExchange, OnLog, OnMessages,
    OnRequestHeaders, OnResponseHeaders, Outcome, RequestHeaders, ResponseHeaders, Root,
    StatusCode, timeout,
};

/// Notes every request wherever a worker can note something.
pub(crate) struct Noting {
    clock: Clock,
    requests: Counters<ByUser>,
    level: Gauges<ByUser>,
    sizes: Histograms<ByUser>,
    seen: Table<[u8; 2], 2>,
    total: Shared<[u8; 8]>,
    lease: Lease,
    queue: Queue,
    recent: LocalCache<Vec<u8>, u64>,
    turns: Cell<u32>,
}

pub(crate) struct ByUser;

impl Labels for ByUser {
    const NAMES: &'static [&'static str] = &["user"];
    type Values<'a> = (&'a [u8],);
}

/// What a stream has come to.
#[derive(Default)]
pub(crate) struct Noted {
    user: Vec<u8>,
}

impl Filter for Noting {
    const NAME: &'static str = "noting";
    type Config = NoConfig;
    type Stream = Noted;

    const STATS_TAGS: StatsTags = StatsTags::of(&[ByUser::NAMES]);

    fn configure(_: NoConfig, root: &Root) -> Result<Self, ConfigureError> {
        let state = root.state("noting", 1);
        let hash_key = state.secret_hash_key().unwrap_or(HashKey::new([7; 16]));
        let shape = Shape::new(2, Duration::from_secs(1), WhenFull::Share).hashed_under(hash_key);
        Ok(Self {
            clock: root.clock(),
            requests: root.counters("requests", Budget::new(3)),
            level: root.gauges("level", Budget::new(3)),
            sizes: root.histograms("sizes", Budget::new(3)),
            seen: state.table("seen", shape, root.counter("overflow")),
            total: state.shared("total"),
            lease: state.lease("lease", Duration::from_millis(100)),
            queue: state.queue("queue"),
            recent: LocalCache::new(4, Duration::from_secs(1)),
            turns: Cell::new(0),
        })
    }
}

impl OnRequestHeaders for Noting {
    fn on_request_headers(&self, stream: &mut Noted, request: &mut RequestHeaders) -> Outcome {
        stream.user = request.read()?.first("x-user").unwrap_or_default().to_vec();
        let now = self.clock.unix_nanos()?;
        let user = stream.user.as_slice();
        self.requests.increment((user,));
        self.level.add((user,), 1);
        let counted = self.seen.update(user, now, |seen| {
            let seen = u16::from_le_bytes(seen.unwrap_or_default()).saturating_add(1);
            Change::Write(seen.to_le_bytes(), seen)
        });
        let seen = match counted {
            Ok(Place::Own(seen) | Place::Evicted(seen) | Place::Shared(seen)) => seen,
            Ok(Place::Full) | Err(_) => 0,
        };
        let _ = self.total.update(|total| {
            let total = u64::from_le_bytes(total.unwrap_or_default()).saturating_add(1);
            Change::Write(total.to_le_bytes(), total)
        });
        let _ = self.queue.push(user);
        if self.recent.get(user, now).is_none() {
            self.recent.insert(user.to_vec(), now, now);
        }
        if seen > 5 {
            return Err(
                LocalReply::new(StatusCode::TOO_MANY_REQUESTS).with_header("x-seen", "many")
            );
        }
        request.set("x-seen", seen.to_string())?;
        request.append("x-noted", user)?;
        Ok(())
    }
}

impl OnResponseHeaders for Noting {
    fn on_response_headers(&self, stream: &mut Noted, response: &mut ResponseHeaders) -> Outcome {
        self.level.add((stream.user.as_slice(),), -1);
        response.remove("server")?;
        response.set("x-noted", &stream.user)?;
        Ok(())
    }
}

impl OnLog for Noting {
    fn on_log(&self, stream: &mut Noted, exchange: &mut LoggedExchange) {
        let lines = exchange.request().map_or(0, Headers::len);
        let _ = exchange.response();
        self.sizes.record((stream.user.as_slice(),), u64::try_from(lines).unwrap_or(0));
    }
}

impl OnMessages for Noting {
    async fn on_messages(&self, inbox: Inbox) {
        while self.turns.get() < 20 {
            self.turns.set(self.turns.get() + 1);
            if let Ok(now) = self.clock.unix_nanos() {
                let _ = self.lease.hold(now);
            }
            let _ = timeout(Duration::from_millis(50), inbox.next(&self.queue)).await;
        }
        let _ = self.lease.release();
    }
}
