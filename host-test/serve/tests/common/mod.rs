//! A proxy with one of the SDK's fixtures in it, on its own thread, between real sockets.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

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
use tollgate_host::scenario::{FilterSource, FilterUse, HostName, Scenario};
use tollgate_host_native::Filter;
use tollgate_host_serve::{Access, Options, Told, serve};

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

/// Starts a proxy with the fixture of a root id, before `upstream`, which answers callouts too. It ends
/// with the test program.
pub(crate) fn start(root_id: &'static str, upstream: SocketAddr) -> Proxy {
    let (sender, addresses) = channel();
    let (accesses, received) = channel();
    thread::spawn(move || {
        let fixtures = tollgate_fixtures::with_all!(tollgate::registration);
        let filter =
            Filter { start: fixtures.start, call: fixtures.call, callbacks: fixtures.callbacks };
        let loader = move |_: &FilterUse| Ok(Arc::new(filter) as Arc<dyn Module>);
        let source = FilterSource::BuiltIn("fixtures".into());
        let plugin = FilterUse {
            root_id: root_id.into(),
            allow_on_headers_stop_iteration: true,
            ..FilterUse::new(source, Vec::new())
        };
        let clusters = vec!["authz".into(), "limits".into()];
        let scenario = Scenario { clusters, ..Scenario::without_steps(plugin) };
        let run = Offline::new(HostName::Native, &loader).start_run(&scenario).unwrap();
        let origin: tollgate_host_serve::Origin = format!("http://{upstream}").parse().unwrap();
        let clusters = scenario.clusters.iter().map(|name| (name.clone(), origin.clone()));
        let options = Options {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            upstream: origin.clone(),
            clusters: clusters.collect::<BTreeMap<_, _>>(),
            recorder: None,
            changes: None,
        };
        serve(run, options, move |told| match told {
            Told::Listens(address) => sender.send(address).unwrap(),
            Told::Log(line) => println!("{line}"),
            // The test may be over.
            Told::Access(access) => drop(accesses.send(access.clone())),
            Told::Exchanged { .. } | Told::RecordingEnds(_) => {}
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
