//! Locks out users who fail to log in too often: all workers count in one table, and each remembers for
//! a second whom it has locked out, so that those who hammer cost no look at the table.

use std::num::NonZeroU32;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use tollgate::state::{Change, LocalCache, Shape, StateError, Table, WhenFull};
use tollgate::{
    Clock, ConfigureError, Counter, Filter, LocalReply, OnRequestHeaders, OnResponseHeaders,
    Outcome, RequestHeaders, ResponseHeaders, Root, StatusCode,
};

/// The configuration.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How many failures lock a user out.
    failures: NonZeroU32,
    /// For how many seconds after the last of them.
    seconds: u16,
}

/// The filter.
#[derive(Debug)]
pub struct Lockout {
    most: u32,
    clock: Clock,
    failures: Table<u32>,
    locked: LocalCache<Vec<u8>, ()>,
    refused: Counter,
}

impl Filter for Lockout {
    const NAME: &'static str = "lockout";
    type Config = Config;
    /// The user.
    type Stream = Vec<u8>;

    fn configure(config: Config, root: &Root) -> Result<Self, ConfigureError> {
        let life = Duration::from_secs(config.seconds.into());
        let shape = Shape::new(1024, life, WhenFull::Evict);
        let overflow = root.counter("tollgate_lockout_overflow");
        Ok(Self {
            most: config.failures.get(),
            clock: root.clock(),
            failures: root.state("lockout", 1).table("failures", shape, overflow),
            locked: LocalCache::new(256, life.min(Duration::from_secs(1))),
            refused: root.counter("tollgate_lockout_refused"),
        })
    }
}

impl OnRequestHeaders for Lockout {
    fn on_request_headers(&self, user: &mut Vec<u8>, request: &mut RequestHeaders) -> Outcome {
        // Of two users nobody can say who fails.
        let Ok(name) = request.read()?.exactly_one("x-user") else {
            return Err(LocalReply::new(StatusCode::BAD_REQUEST).with_body("who are you?\n"));
        };
        *user = name.to_vec();
        let now = self.clock.unix_nanos()?;
        if self.locked.get(name, now).is_none() {
            let failures = self.failures.get(name, now).map_err(undecided)?.unwrap_or(0);
            if failures < self.most {
                return Ok(());
            }
            self.locked.insert(name.to_vec(), (), now);
        }
        self.refused.increment();
        Err(LocalReply::new(StatusCode::TOO_MANY_REQUESTS).with_body("locked out\n"))
    }
}

impl OnResponseHeaders for Lockout {
    fn on_response_headers(&self, user: &mut Vec<u8>, response: &mut ResponseHeaders) -> Outcome {
        if response.read()?.status() == Some(401) && !user.is_empty() {
            let once_more =
                |failures: Option<u32>| Change::Write(failures.unwrap_or(0).saturating_add(1), ());
            self.failures.update(user, self.clock.unix_nanos()?, once_more).map_err(undecided)?;
        }
        Ok(())
    }
}

/// A user of whom nothing can be told does not pass.
fn undecided(error: StateError) -> LocalReply {
    tollgate::log::warn!("failures cannot be counted: {error}");
    LocalReply::new(StatusCode::SERVICE_UNAVAILABLE).with_details("lockout_undecided")
}
