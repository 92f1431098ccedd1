//! A proxy with one of the SDK's fixtures in it, on its own thread, between real sockets.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::runtime;
use tollgate_host::engine::Module;
use tollgate_host::offline::Offline;
use tollgate_host::proxy::StartError;
use tollgate_host::recording::Head;
use tollgate_host::scenario::{FilterSource, FilterUse, HostName, Scenario};
use tollgate_host_native::Filter;
use tollgate_host_serve::{Access, Options, Recorder, Told, Trust, serve};

/// What is told by a proxy that runs.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    accesses: Receiver<Access>,
}

impl Proxy {
    /// The next stream that is over.
    pub(crate) fn access(&self) -> Access {
        self.accesses.recv_timeout(Duration::from_secs(10)).unwrap()
    }
}

/// A proxy with the fixture of a root id, which may call two clusters.
pub(crate) fn scenario(root_id: &str) -> Scenario {
    let source = FilterSource::BuiltIn("fixtures".into());
    let plugin = FilterUse {
        root_id: root_id.into(),
        allow_on_headers_stop_iteration: true,
        ..FilterUse::new(source, Vec::new())
    };
    let clusters = vec!["authz".into(), "limits".into()];
    Scenario { clusters, ..Scenario::without_steps(plugin) }
}

/// All fixtures are one module.
#[allow(clippy::unnecessary_wraps, reason = "other loaders may fail")]
pub(crate) fn load(_: &FilterUse) -> Result<Arc<dyn Module>, StartError> {
    let fixtures = tollgate_fixtures::with_all!(tollgate::registration);
    let (start, call, callbacks) = (fixtures.start, fixtures.call, fixtures.callbacks);
    Ok(Arc::new(Filter { start, call, callbacks }))
}

/// Starts a proxy with the fixture of a root id, before `upstream`, which answers callouts too. It ends
/// with the test program.
pub(crate) fn start(root_id: &'static str, upstream: SocketAddr) -> Proxy {
    start_recorded(root_id, upstream, None)
}

/// The same, and it records into a file.
pub(crate) fn start_recorded(
    root_id: &'static str,
    upstream: SocketAddr,
    record: Option<PathBuf>,
) -> Proxy {
    let (sender, addresses) = channel();
    let (accesses, received) = channel();
    thread::spawn(move || {
        let scenario = scenario(root_id);
        let mut run = Offline::new(HostName::Native, &load).start_run(&scenario).unwrap();
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        run.set_clock(wall);
        let head = Head::new(&scenario, run.codes(), BTreeMap::new(), wall, Vec::new());
        let recorder = record.map(|file| Recorder::append(&file, 1 << 20, &head).unwrap());
        let origin: tollgate_host_serve::Origin = format!("http://{upstream}").parse().unwrap();
        let clusters = scenario.clusters.iter().map(|name| (name.clone(), origin.clone()));
        let options = Options {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            tls: None,
            trust: Trust::nobody().unwrap(),
            upstream: origin.clone(),
            clusters: clusters.collect::<BTreeMap<_, _>>(),
            recorder,
            changes: None,
        };
        serve(run, options, move |told| match told {
            Told::Listens(address) => sender.send(address).unwrap(),
            Told::Log(line) => println!("{line}"),
            Told::Trapped(trap) => println!("{trap}"),
            // The test may be over.
            Told::Access(access) => drop(accesses.send(access.clone())),
            Told::Exchanged { .. } | Told::RecordingEnds(_) | Told::NoHandshake(_) => {}
        })
        .unwrap();
    });
    let address = addresses.recv_timeout(Duration::from_secs(10)).unwrap();
    Proxy { address, accesses: received }
}

/// A server for HTTP/1.1 and HTTP/2 on a thread of its own, which answers as `answer` says.
pub(crate) fn upstream(answer: fn(&str, &HeaderMap, &[u8]) -> Response<Full<Bytes>>) -> SocketAddr {
    let (sender, addresses) = channel();
    thread::spawn(move || {
        on_sockets(async move {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            sender.send(listener.local_addr().unwrap()).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = service_fn(move |request: Request<Incoming>| async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    Ok::<_, Infallible>(answer(head.uri.path(), &head.headers, &body))
                });
                let server = auto::Builder::new(TokioExecutor::new());
                tokio::spawn(async move {
                    // How a connection ends is seen on its other side.
                    drop(server.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
    });
    addresses.recv_timeout(Duration::from_secs(10)).unwrap()
}

/// Runs something that uses sockets to its end.
pub(crate) fn on_sockets<T>(work: impl Future<Output = T>) -> T {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_mins(1), work).await.expect("it takes too long")
    })
}
