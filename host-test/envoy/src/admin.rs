//! Envoy's admin interface: what it tells of itself.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, StatusCode, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often something is asked that has not come true yet.
const INTERVAL: Duration = Duration::from_millis(1);

/// The admin interface of one Envoy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admin {
    address: SocketAddr,
}

impl Admin {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    /// Whether Envoy serves requests on all workers.
    pub(crate) async fn is_ready(&self) -> Result<bool, AdminError> {
        let started = self.statistic("listener_manager.workers_started").await?;
        let (status, _) = self.get("/ready").await?;
        Ok(started == 1 && status == StatusCode::OK)
    }

    /// Where the listeners listen, by their names.
    pub(crate) async fn listeners(&self) -> Result<BTreeMap<String, SocketAddr>, AdminError> {
        let path = "/listeners?format=json";
        let answer = self.json(path).await?;
        let listener = |status: &Value| {
            let name = status.get("name")?.as_str()?.to_owned();
            let address = status.pointer("/local_address/socket_address")?;
            let host = address.get("address")?.as_str()?.parse().ok()?;
            let port = u16::try_from(address.get("port_value")?.as_u64()?).ok()?;
            Some((name, SocketAddr::new(host, port)))
        };
        let statuses = answer.get("listener_statuses").and_then(Value::as_array);
        let listeners = statuses.and_then(|all| all.iter().map(listener).collect());
        listeners
            .ok_or_else(|| AdminError::Unexpected { path: path.into(), answer: answer.to_string() })
    }

    /// Counters and gauges whose names match the regular expression `pattern`.
    pub(crate) async fn statistics(
        &self,
        pattern: &str,
    ) -> Result<BTreeMap<String, u64>, AdminError> {
        let path = format!("/stats?format=json&filter={}", percent_encoded(pattern));
        let answer = self.json(&path).await?;
        let Some(statistics) = answer.get("stats").and_then(Value::as_array) else {
            return Err(AdminError::Unexpected { path, answer: answer.to_string() });
        };
        let read = |entry: &Value| {
            Some((entry.get("name")?.as_str()?.to_owned(), entry.get("value")?.as_u64()?))
        };
        Ok(statistics.iter().filter_map(read).collect())
    }

    /// The counter or gauge `name`; 0 when there is none.
    pub(crate) async fn statistic(&self, name: &str) -> Result<u64, AdminError> {
        Ok(self.statistics(&exactly(name)).await?.get(name).copied().unwrap_or(0))
    }

    /// Asks for counters and gauges until they are as wanted or `limit` is over, and gives the last.
    pub(crate) async fn statistics_until(
        &self,
        pattern: &str,
        limit: Duration,
        mut wanted: impl FnMut(&BTreeMap<String, u64>) -> bool,
    ) -> Result<BTreeMap<String, u64>, AdminError> {
        let begin = Instant::now();
        loop {
            let statistics = self.statistics(pattern).await?;
            if wanted(&statistics) || begin.elapsed() >= limit {
                return Ok(statistics);
            }
            sleep(INTERVAL).await;
        }
    }

    /// Asks for the counter or gauge `name` until it is as wanted or `limit` is over, and gives the last.
    pub(crate) async fn statistic_until(
        &self,
        name: &str,
        limit: Duration,
        mut wanted: impl FnMut(u64) -> bool,
    ) -> Result<u64, AdminError> {
        let value = |all: &BTreeMap<String, u64>| all.get(name).copied().unwrap_or(0);
        let wanted = |all: &BTreeMap<String, u64>| wanted(value(all));
        Ok(value(&self.statistics_until(&exactly(name), limit, wanted).await?))
    }

    async fn json(&self, path: &str) -> Result<Value, AdminError> {
        let (_, body) = self.get(path).await?;
        serde_json::from_slice(&body).map_err(|_| AdminError::Unexpected {
            path: path.into(),
            answer: String::from_utf8_lossy(&body).into_owned(),
        })
    }

    async fn get(&self, path: &str) -> Result<(StatusCode, Bytes), AdminError> {
        timeout(PATIENCE, self.get_at_last(path))
            .await
            .unwrap_or_else(|_| Err(AdminError::Silent { path: path.into() }))
    }

    async fn get_at_last(&self, path: &str) -> Result<(StatusCode, Bytes), AdminError> {
        let broken = |error| AdminError::Broken { path: path.into(), error };
        let stream = TcpStream::connect(self.address).await.map_err(AdminError::Unreachable)?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let _task = tokio::spawn(connection);
        let request = Request::get(path)
            .header("host", "admin")
            .body(Empty::<Bytes>::new())
            .map_err(|_| AdminError::Unaskable { path: path.into() })?;
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(broken)?;
        Ok((status, body.to_bytes()))
    }
}

/// The admin interface does not tell.
#[derive(Debug)]
pub(crate) enum AdminError {
    /// There is nobody.
    Unreachable(io::Error),
    /// The connection broke.
    Broken { path: String, error: hyper::Error },
    /// There was no answer.
    Silent { path: String },
    /// The path cannot be asked for.
    Unaskable { path: String },
    /// The answer is not what this Envoy gives.
    Unexpected { path: String, answer: String },
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => write!(f, "envoy's admin interface: {error}"),
            Self::Broken { path, error } => write!(f, "envoy's admin interface, {path}: {error}"),
            Self::Silent { path } => {
                write!(f, "envoy's admin interface, {path}: no answer in {} s", PATIENCE.as_secs())
            }
            Self::Unaskable { path } => write!(f, "{path} is not a path to ask for"),
            Self::Unexpected { path, answer } => write!(
                f,
                "envoy's admin interface, {path}: `{}` is not what Envoy 1.40 answers; \
                 check the version",
                answer.escape_debug()
            ),
        }
    }
}

impl std::error::Error for AdminError {}

fn exactly(name: &str) -> String {
    format!("^{}$", name.replace('.', "\\."))
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_encoded_for_a_query() {
        let check = |text, expected| assert_eq!(percent_encoded(text), expected);
        check("http.ingress", "http.ingress");
        check(r"^wasmcustom\.", "%5Ewasmcustom%5C.");
    }
}
