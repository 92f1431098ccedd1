//! What plugins share, read on Envoy: for each `vm_id` a listener with a module of ours under it, which
//! answers over TCP.
//!
//! A message of a queue can be read only by taking it, so nothing can follow once one was.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tollgate_abi::Status;
use tollgate_host::scenario::{FailurePolicy, Traffic};

use crate::bootstrap::{Plugin, echo, loopback};

/// The module that reads.
const READER: &str = include_str!("shared/reader.wat");

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The module that reads, as Envoy loads it.
pub(crate) fn reader() -> io::Result<Vec<u8>> {
    wat::parse_str(READER).map_err(io::Error::other)
}

/// The name of the listener for a `vm_id`.
fn name(vm_id: &str) -> String {
    format!("shared {vm_id}")
}

/// The listener for a `vm_id`, with the module that reads in a file.
pub(crate) fn listener(vm_id: &str, reader: &Path) -> Value {
    let plugin = Plugin {
        name: "reader",
        root_id: "",
        vm_id,
        vm_configuration: "",
        environment: &BTreeMap::new(),
        module: reader,
        configuration: "",
        allow_on_headers_stop_iteration: false,
        allowed_capabilities: &BTreeSet::new(),
        failure_policy: FailurePolicy::Closed,
    };
    json!({
        "name": name(vm_id),
        // Apart from the listener whose connections are counted.
        "stat_prefix": "shared",
        "address": loopback(0),
        "filter_chains": [{ "filters": [plugin.to_json(Traffic::Tcp), echo()] }],
    })
}

/// Whom to ask, by `vm_id`, and what was taken to read it.
#[derive(Debug)]
pub(crate) struct Readers {
    addresses: BTreeMap<String, SocketAddr>,
    taken: BTreeMap<(String, Vec<u8>), Vec<Vec<u8>>>,
}

impl Readers {
    /// Those for some `vm_id`s, among the listeners of an Envoy by their names.
    pub(crate) fn among(listeners: &BTreeMap<String, SocketAddr>, vm_ids: &BTreeSet<&str>) -> Self {
        let address = |vm_id: &&str| Some(((*vm_id).to_owned(), *listeners.get(&name(vm_id))?));
        Self { addresses: vm_ids.iter().filter_map(address).collect(), taken: BTreeMap::new() }
    }

    /// The value of a key.
    ///
    /// # Errors
    ///
    /// [`Unread`] when Envoy does not tell.
    pub(crate) async fn shared_data(
        &self,
        vm_id: &str,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>, Unread> {
        match self.ask(vm_id, b'd', key).await? {
            (Status::Ok, value) => Ok(Some(value)),
            (Status::NotFound, _) => Ok(None),
            (status, _) => Err(Unread::Status(status)),
        }
    }

    /// The messages that wait in a queue, with those that were taken before.
    ///
    /// # Errors
    ///
    /// [`Unread`] when Envoy does not tell.
    pub(crate) async fn queue(
        &mut self,
        vm_id: &str,
        name: &[u8],
    ) -> Result<Option<Vec<Vec<u8>>>, Unread> {
        let queue = (vm_id.to_owned(), name.to_vec());
        loop {
            match self.ask(vm_id, b'q', name).await? {
                (Status::Ok, message) => {
                    self.taken.entry(queue.clone()).or_default().push(message);
                }
                (Status::Empty, _) => {
                    return Ok(Some(self.taken.get(&queue).cloned().unwrap_or_default()));
                }
                (Status::NotFound, _) => return Ok(None),
                (status, _) => return Err(Unread::Status(status)),
            }
        }
    }

    /// A queue whose messages were taken, if there is one.
    pub(crate) fn taken(&self) -> Option<&[u8]> {
        self.taken.keys().next().map(|(_, name)| name.as_slice())
    }

    async fn ask(&self, vm_id: &str, what: u8, name: &[u8]) -> Result<(Status, Vec<u8>), Unread> {
        let address = *self.addresses.get(vm_id).ok_or(Unread::NoListener)?;
        let answer = timeout(PATIENCE, answer(address, what, name)).await;
        let (status, value) = answer.map_err(|_| Unread::Silent)?.map_err(Unread::Broken)?;
        Ok((Status::from(u32::from(status)), value))
    }
}

async fn answer(address: SocketAddr, what: u8, name: &[u8]) -> io::Result<(u8, Vec<u8>)> {
    let mut stream = TcpStream::connect(address).await?;
    let length = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
    let question = [&length.to_le_bytes()[..], &[what], name].concat();
    stream.write_all(&question).await?;
    let status = stream.read_u8().await?;
    let length = stream.read_u32_le().await?;
    let mut value = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    stream.read_exact(&mut value).await?;
    Ok((status, value))
}

/// Envoy does not tell what plugins share.
#[derive(Debug)]
pub(crate) enum Unread {
    /// It was not started for it.
    NoListener,
    /// There was no answer.
    Silent,
    /// The connection broke.
    Broken(io::Error),
    /// The host call answered this.
    Status(Status),
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("reading what plugins share on Envoy: ")?;
        match self {
            Self::NoListener => f.write_str("this Envoy has no listener for the vm_id"),
            Self::Silent => write!(f, "no answer in {} s", PATIENCE.as_secs()),
            Self::Broken(error) => write!(f, "{error}"),
            Self::Status(status) => write!(f, "the host answered {status}"),
        }
    }
}

impl std::error::Error for Unread {}
