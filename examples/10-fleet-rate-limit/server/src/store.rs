//! Counters in Redis, for as many servers as ask it: all that a request is charged to changes in one step.
//!
//! Limitador's own storage in Redis looks first and charges in a second step, so that requests which come
//! together pass a limit; and without its storage on disk, `RocksDB`, it does not compile. Of Limitador are
//! the limits, what they count by, and the names and shape of the counters.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use limitador::CheckResult;
use limitador::counter::Counter;
use limitador::limit::{Limit, Namespace};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Script};
use tonic::Status;

use crate::counters::{Asked, unavailable};

/// How long a connection may take, and then an answer: a proxy does not wait longer.
const PATIENCE: Duration = Duration::from_millis(200);

/// Charges all counters, or none when one of them refuses.
///
/// A key is a counter; its arguments are its limit, its window in seconds, and its hits, 0 to ask only. Gives
/// of each, one after the other: whether it refuses, what is left of it, and in how many milliseconds its
/// window ends, below 0 when it has not begun.
const CHARGE: &str = "
    local results, due, refused = {}, {}, false
    for at, key in ipairs(KEYS) do
        local limit, hits = tonumber(ARGV[3 * at - 2]), tonumber(ARGV[3 * at])
        local left = limit - tonumber(redis.call('get', key) or 0) - (due[key] or 0)
        local is_over = left < math.max(hits, 1)
        refused = refused or is_over
        due[key] = (due[key] or 0) + hits
        results[3 * at - 2] = is_over and 1 or 0
        results[3 * at - 1] = math.max(left, 0)
        results[3 * at] = redis.call('pttl', key)
    end
    if refused then return results end
    for at, key in ipairs(KEYS) do
        local hits = tonumber(ARGV[3 * at])
        if hits > 0 then
            redis.call('incrby', key, ARGV[3 * at])
            results[3 * at - 1] = results[3 * at - 1] - hits
            if results[3 * at] < 0 then redis.call('expire', key, ARGV[3 * at - 1]) end
        end
    end
    return results
";

/// Counters in Redis.
pub(crate) struct Store {
    limits: Vec<Arc<Limit>>,
    connection: ConnectionManager,
    charge: Script,
}

impl Store {
    /// Redis at a URL. It need not be there yet: until it is, nobody knows what has been spent.
    ///
    /// # Errors
    ///
    /// A URL that is none.
    pub(crate) fn new(limits: Vec<Limit>, url: &str) -> Result<Self> {
        let client = Client::open(url).with_context(|| format!("{url} is no URL of Redis"))?;
        // Who asks meanwhile is told so at once, and the next one tries again.
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let connection = ConnectionManager::new_lazy_with_config(client, config)?;
        let limits = limits.into_iter().map(Arc::new).collect();
        Ok(Self { limits, connection, charge: Script::new(CHARGE) })
    }

    /// As [`crate::counters::Counters::decide`]. An answer that is lost may have charged.
    pub(crate) async fn decide(
        &self,
        domain: &Namespace,
        asked: &[Asked],
    ) -> Result<Vec<CheckResult>, Status> {
        let mut results: Vec<CheckResult> =
            asked.iter().map(|asked| self.matched(domain, asked)).collect::<Result<_, _>>()?;
        let mut charge = self.charge.prepare_invoke();
        for (asked, result) in asked.iter().zip(&results) {
            for counter in &result.counters {
                let window = counter.window().as_secs();
                charge.key(key(counter)?).arg(counter.max_value()).arg(window).arg(asked.hits);
            }
        }
        if results.iter().all(|result| result.counters.is_empty()) {
            return Ok(results);
        }
        let mut connection = self.connection.clone();
        let charged: Vec<i64> = charge.invoke_async(&mut connection).await.map_err(unavailable)?;
        let mut charged = charged.as_chunks().0.iter();
        for result in &mut results {
            for counter in &mut result.counters {
                let &[is_over, left, ends] = charged
                    .next()
                    .ok_or_else(|| unavailable("the store has left out a counter"))?;
                result.limited |= is_over != 0;
                counter.set_remaining(left.try_into().unwrap_or_default());
                let ends = ends.try_into().map_or(counter.window(), Duration::from_millis);
                counter.set_expires_in(ends);
            }
        }
        Ok(results)
    }

    /// What a descriptor counts against.
    fn matched(&self, domain: &Namespace, asked: &Asked) -> Result<CheckResult, Status> {
        let is_due =
            |limit: &&Arc<Limit>| limit.namespace() == domain && limit.applies(&asked.context);
        let counters = self.limits.iter().filter(is_due);
        let counters: Result<_, _> = counters
            .filter_map(|limit| Counter::new(Arc::clone(limit), &asked.context).transpose())
            .collect();
        let counters = counters.map_err(unavailable)?;
        Ok(CheckResult { limited: false, counters, limit_name: None })
    }
}

/// The name of a counter, as Limitador has it. What is in braces is what a cluster deals keys by: a script
/// may only take keys of one machine.
fn key(counter: &Counter) -> Result<String, Status> {
    let namespace = counter.namespace().as_ref();
    let counter = serde_json::to_string(counter).map_err(unavailable)?;
    Ok(format!("namespace:{{{namespace}}},counter:{counter}"))
}
