//! Driving a filter in a test: what is asked for, what is seen, and what is told of a mistake.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use tollgate::callout::HttpCall;
use tollgate::config::NoConfig;
use tollgate::testing::{
    Alert, Answer, CertificateTime, Fault, Issuer, LogLevel, Meets, Peer, PlannedCallout,
    PlayError, Proxy, StartError, Upstream,
};
use tollgate::{
    Clock, ConfigureError, Counter, Filter, Function, LocalReply, OnExchange, OnRequestHeaders,
    Outcome, Request, RequestHeaders, Root, Status, StatusCode, registration,
};

/// Stamps requests with the time and counts them; refuses those that say so.
struct Stamping {
    clock: Clock,
    seen: Counter,
}

impl Filter for Stamping {
    const NAME: &'static str = "stamping";
    type Config = NoConfig;
    type Stream = ();

    fn configure(_: NoConfig, root: &Root) -> Result<Self, ConfigureError> {
        Ok(Self { clock: root.clock(), seen: root.counter("stamped") })
    }
}

impl OnRequestHeaders for Stamping {
    fn on_request_headers(&self, (): &mut (), request: &mut RequestHeaders) -> Outcome {
        self.seen.increment();
        tollgate::log::debug!("a request");
        assert!(request.read()?.first("x-panic").is_none(), "as asked");
        if request.read()?.first("x-refuse").is_some() {
            let reply = LocalReply::new(StatusCode::FORBIDDEN).with_body("no\n");
            return Err(reply.with_header("x-why", "asked"));
        }
        let seconds = self.clock.unix_nanos()? / 1_000_000_000;
        request.set("x-time", seconds.to_string())?;
        Ok(())
    }
}

/// Asks the cluster `authz`, and does not care.
struct Asking;

impl Filter for Asking {
    const NAME: &'static str = "asking";
    type Config = NoConfig;
    type Stream = ();

    fn configure(_: NoConfig, _: &Root) -> Result<Self, ConfigureError> {
        Ok(Self)
    }
}

impl OnExchange for Asking {
    async fn on_exchange(&self, (): &mut (), _: Request) -> Outcome {
        let _ = HttpCall::post("authz", "/check").body("who").send().await;
        Ok(())
    }
}

/// Tells the upstream who calls.
struct Naming;

impl Filter for Naming {
    const NAME: &'static str = "naming";
    type Config = NoConfig;
    type Stream = ();

    fn configure(_: NoConfig, _: &Root) -> Result<Self, ConfigureError> {
        Ok(Self)
    }
}

impl OnRequestHeaders for Naming {
    fn on_request_headers(&self, (): &mut (), request: &mut RequestHeaders) -> Outcome {
        let peer = tollgate::origin::peer();
        request.set("x-peer", format!("{peer:?}"))?;
        Ok(())
    }
}

#[test]
fn peers_show_certificates_as_in_scenarios() {
    let old = CertificateTime::Before(Duration::from_hours(1));
    let bootstrap = Proxy::with(registration!(Naming))
        .peer(Peer::new("web").uri("spiffe://acme/web").dns("web.acme"))
        .peer(Peer::without_certificate("guest"))
        .peer(Peer::new("other").uri("spiffe://acme/web").issuer(Issuer::Untrusted))
        .peer(Peer::new("late").valid(CertificateTime::Before(Duration::from_hours(2)), old));
    let mut proxy = bootstrap.clone().start().unwrap();
    let mut check = |peer: &str, named: Option<&str>, refused: Option<Alert>| {
        let exchange = proxy.get("/").peer(peer).send().unwrap();
        assert_eq!(exchange.refused(), refused, "{peer}: {exchange}");
        let seen = exchange.upstream().map(|upstream| upstream.header("x-peer").unwrap());
        let is_as_said = match (&seen, named) {
            (Some(seen), Some(named)) => seen.contains(named),
            (seen, named) => seen.is_none() && named.is_none(),
        };
        assert!(is_as_said, "{peer}: {seen:?}");
        assert!(refused.is_none() || exchange.to_string().contains("client was refused: "));
    };
    check("web", Some("acme"), None);
    check("guest", Some("Missing"), None);
    check("other", None, Some(Alert::UNKNOWN_CA));
    check("late", None, Some(Alert::CERTIFICATE_EXPIRED));
    let wrong = proxy.get("/").peer("nobody").send().unwrap_err().to_string();
    assert!(wrong.contains("nobody is not among `peers`: web, guest, other, late"), "{wrong}");
    let wrong = proxy.get("/").send().unwrap_err().to_string();
    assert!(wrong.contains("peer: missing"), "{wrong}");

    let mut strict = bootstrap.require_client_certificate().accept_untrusted().start().unwrap();
    let guest = strict.get("/").peer("guest").send().unwrap();
    assert_eq!(guest.refused(), Some(Alert::CERTIFICATE_REQUIRED), "{guest}");
    let other = strict.get("/").peer("other").send().unwrap();
    assert_eq!((other.refused(), other.status()), (None, Some(200)), "{other}");
}

#[test]
fn peers_out_of_bounds_are_told() {
    let check = |peers: &[Peer], expected: &str| {
        let bootstrap = Proxy::with(registration!(Naming)).require_client_certificate();
        let bootstrap = peers.iter().cloned().fold(bootstrap, tollgate::testing::Bootstrap::peer);
        let wrong = bootstrap.start().map(drop).unwrap_err().to_string();
        assert!(wrong.contains(expected), "{wrong}");
    };
    check(&[], "peers: none; name at least one");
    check(&[Peer::new("a"), Peer::new("a")], "peers.a: there are two of the name");
    check(&[Peer::new("a").subject("web")], "peers.a.subject: ");
    check(
        &[Peer::new("a").server_name("a b")],
        "peers.a.server_name: `a b` is not a name of a host",
    );
    check(&[Peer::new("a").uri("spiffe://ö")], "peers.a.san: `spiffe://ö` is not ASCII");
    let many: Vec<Peer> = (0..65).map(|number| Peer::new(number.to_string())).collect();
    check(&many, "peers: 65 are above the bound of 64");
}

fn time(proxy: &mut Proxy) -> u64 {
    let exchange = proxy.get("/").send().unwrap();
    exchange.upstream().unwrap().header("x-time").unwrap().to_string().parse().unwrap()
}

#[test]
fn time_passes_and_the_clock_leaps_when_the_test_says_so() {
    let mut proxy = Proxy::with(registration!(Stamping)).start().unwrap();
    let began = time(&mut proxy);
    assert_eq!(time(&mut proxy), began);
    proxy.advance(Duration::from_secs(5)).unwrap();
    assert_eq!(time(&mut proxy), began + 5);
    proxy.set_clock_back(Duration::from_mins(1)).unwrap();
    assert_eq!(time(&mut proxy), began - 55);
    proxy.set_clock_forward(Duration::from_hours(1)).unwrap();
    assert_eq!(time(&mut proxy), began + 3545);
}

#[test]
fn requests_go_to_the_workers_in_turn_and_all_count_together() {
    let mut proxy = Proxy::with(registration!(Stamping)).workers(3).start().unwrap();
    let workers: Vec<usize> = (0..4).map(|_| proxy.get("/").send().unwrap().worker()).collect();
    assert_eq!(workers, [0, 1, 2, 0]);
    assert_eq!(proxy.get("/").worker(2).send().unwrap().worker(), 2);
    assert_eq!(proxy.metric("stamped"), Some(5));
    assert_eq!(proxy.metric("unknown"), None);
}

#[test]
fn everything_of_a_message_arrives() {
    let mut proxy = Proxy::with(registration!(Stamping)).start().unwrap();
    let answer = Answer::new(201)
        .header("X-Made", "a")
        .header("x-made", "b")
        .body("on")
        .body("e")
        .trailer("x-done", "1");
    let request = proxy.request("PUT", "/orders?a=1").authority("shop").header("X-Raw", [0xff]);
    let request = request.body("hel").body("lo").trailer("x-sum", "5").upstream(answer);
    let exchange = request.send().unwrap();

    let upstream = exchange.upstream().unwrap();
    assert_eq!(upstream.method(), "PUT");
    assert_eq!(upstream.path(), "/orders?a=1");
    assert_eq!(upstream.header("host").unwrap(), "shop");
    assert_eq!(upstream.header("x-raw").unwrap(), b"\xff");
    assert_eq!(upstream.body(), "hello");
    assert_eq!(upstream.trailer("x-sum").unwrap(), "5");
    let response = exchange.response().unwrap();
    assert_eq!(response.status(), 201);
    assert_eq!(response.header("x-made").unwrap(), "a, b");
    assert_eq!(response.header_lines("X-MADE"), ["a", "b"]);
    assert_eq!(response.header("x-other"), None);
    assert_eq!(response.body(), "one");
    assert_eq!(response.trailer("x-done").unwrap(), "1");

    let exchange = proxy.get("/").upstream(Upstream::Reset).send().unwrap();
    assert_eq!(exchange.status(), Some(503), "{exchange}");
}

#[test]
fn an_exchange_prints_what_client_and_upstream_saw() {
    let proxy = Proxy::with(registration!(Stamping)).log_level(LogLevel::Debug);
    let mut proxy = proxy.start().unwrap();
    let exchange = proxy.post("/a").header("x-refuse", "1").body("hello").send().unwrap();
    let text = exchange.to_string();
    let lines: Vec<&str> = text.lines().filter(|line| !line.contains("date: ")).collect();
    assert_eq!(
        lines,
        [
            "client sent POST /a to worker 0",
            "    x-refuse: 1",
            "    \"hello\"",
            "client got 403",
            "    x-why: asked",
            "    content-length: 3",
            "    content-type: text/plain",
            "    connection: close",
            "    \"no\\n\"",
            "upstream got nothing",
            "4 host calls",
            "log debug: stamping: a request",
        ]
    );
    assert_eq!(format!("{exchange:?}"), text);
    let whole = format!("{exchange:#}");
    assert!(whole.starts_with(&text), "{whole}");
    assert!(whole.contains("proxy_send_local_response(status_code=403"), "{whole}");
    assert_eq!(exchange.calls_of(Function::SendLocalResponse), 1);
    assert!(exchange.logged("a request") && !exchange.logged("two requests"));
}

#[test]
fn filters_stand_in_a_chain() {
    let chain = Proxy::with(registration!(Asking)).name("first").then(registration!(Stamping));
    let mut proxy = chain.cluster("authz").start().unwrap();
    let exchange = proxy.get("/").callout("authz", Answer::new(200)).send().unwrap();
    assert!(exchange.upstream().unwrap().header("x-time").is_some(), "{exchange}");
    assert_eq!(exchange.callouts().len(), 1);
    assert_eq!(exchange.callouts()[0].cluster(), "authz");
    assert_eq!(exchange.callouts()[0].body(), "who");
}

#[test]
fn callouts_that_are_not_as_planned_are_told_with_the_exchange() {
    let mut proxy = Proxy::with(registration!(Asking)).cluster("authz").start().unwrap();
    let unplanned = proxy.get("/a").callout("authz", Meets::Refused).send();
    assert!(unplanned.is_ok(), "{unplanned:?}");
    let unplanned = proxy.get("/a").send().unwrap_err().to_string();
    assert!(unplanned.starts_with("callout to authz: expected none, got POST /check\n"));
    assert!(unplanned.contains("client sent GET /a"), "{unplanned}");

    let mut proxy = Proxy::with(registration!(Stamping)).cluster("authz").start().unwrap();
    let missing = proxy.get("/").callout("authz", Meets::Never).send().unwrap_err();
    assert!(matches!(missing, PlayError::Callouts { .. }), "{missing}");
    let planned = PlannedCallout::new("authz", Answer::new(200));
    let missing = proxy.advance_with(Duration::from_secs(1), [planned]).unwrap_err().to_string();
    assert!(missing.starts_with("callout 1 to authz: expected one, but no guest made it"));
}

#[test]
fn a_host_call_that_fails_is_part_of_the_test() {
    let mut proxy = Proxy::with(registration!(Stamping)).start().unwrap();
    let fault = Fault::nth(1, Function::GetCurrentTime, Status::InternalFailure);
    let exchange = proxy.get("/").fault(fault).send().unwrap();
    assert_eq!(exchange.status(), Some(503), "{exchange}");
    let exchange = proxy.get("/").send().unwrap();
    assert_eq!(exchange.status(), Some(200), "{exchange}");
}

#[test]
fn a_filter_that_panics_is_a_vm_that_has_trapped() {
    let mut proxy = Proxy::with(registration!(Stamping)).start().unwrap();
    let exchange = proxy.get("/").header("x-panic", "1").send().unwrap();
    assert_eq!(exchange.status(), Some(503), "{exchange}");
    assert!(exchange.upstream().is_none(), "{exchange}");
}

#[test]
fn a_configuration_that_is_not_taken_is_told_in_the_words_of_the_filter() {
    let refused = Proxy::with(registration!(Stamping)).config(r#"{"a": 1}"#).start().unwrap_err();
    assert!(matches!(refused, StartError::Refused { .. }), "{refused}");
    assert!(refused.to_string().contains("a: unknown field"), "{refused}");
    assert_eq!(format!("{refused:?}"), refused.to_string());
}

#[test]
fn what_is_out_of_bounds_is_told_with_the_bound() {
    let start = || Proxy::with(registration!(Stamping));
    assert_eq!(start().workers(0).start().unwrap_err().to_string(), "workers: 0 is not at least 1");
    let many = start().workers(17).start().unwrap_err();
    assert_eq!(many.to_string(), "workers: 17 is above the bound of 16");
    let cluster = start().cluster("a b").start().unwrap_err().to_string();
    assert!(cluster.contains("`a b` is not a name"), "{cluster}");

    let mut proxy = start().cluster("authz").start().unwrap();
    let mut check = |request: fn(&mut Proxy) -> Result<(), PlayError>, expected: &str| {
        let error = request(&mut proxy).unwrap_err().to_string();
        assert!(error.contains(expected), "{error} lacks {expected}");
    };
    check(
        |proxy| proxy.get("/").worker(1).send().map(drop),
        "worker: 1 does not exist; workers count from 0 to 0",
    );
    check(
        |proxy| proxy.get("/").header("x y", "").send().map(drop),
        "request.headers: `x y` is not a header name",
    );
    check(
        |proxy| proxy.get("/").upstream(Answer::new(99)).send().map(drop),
        "upstream.status: 99 is not between 200 and 599",
    );
    check(
        |proxy| proxy.get("/").callout("limits", Meets::Never).send().map(drop),
        "`limits` is not in `clusters`",
    );
    let fault = Fault::nth(0, Function::Log, Status::BadArgument);
    let error = proxy.get("/").fault(fault).send().unwrap_err().to_string();
    assert_eq!(error, "faults.nth: calls count from 1");
}

#[test]
fn scenarios_of_a_folder_are_judged() {
    let folder = tempfile::tempdir().unwrap();
    let nothing = tollgate::testing::scenarios(folder.path(), registration!(Stamping));
    assert!(nothing.unwrap_err().to_string().ends_with(": no scenario ran"));
    let inner = folder.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    let write = |name: &str, status: u16| {
        let text = format!(
            "name: x\nfilters: [ {{ filter: any }} ]\nsteps: [ {{ request: {{}}, \
             expect: {{ response: {{ status: {status} }} }} }} ]\n"
        );
        std::fs::write(inner.join(name), text).unwrap();
    };
    write("right.yaml", 200);
    let play = || tollgate::testing::scenarios(folder.path(), registration!(Stamping));
    assert_eq!(play().unwrap(), 1);
    write("wrong.yml", 404);
    let wrong = play().unwrap_err();
    assert_eq!(wrong.failures.len(), 1, "{wrong}");
    assert!(wrong.failures[0].contains("wrong.yml: step 1, GET /: response status: expected 404"));
}

/// Shares when the upstream has answered one request; who waited for that is refused.
struct Gathering {
    flights: tollgate::callout::SingleFlight<(), ()>,
}

impl Filter for Gathering {
    const NAME: &'static str = "gathering";
    type Config = NoConfig;
    type Stream = ();

    fn configure(_: NoConfig, _: &Root) -> Result<Self, ConfigureError> {
        Ok(Self { flights: tollgate::callout::SingleFlight::new() })
    }
}

impl OnExchange for Gathering {
    async fn on_exchange(&self, (): &mut (), mut request: Request) -> Outcome {
        if request.read()?.path() == Some(b"/waits") {
            self.flights.run((), async || ()).await;
            return Err(LocalReply::new(StatusCode::FORBIDDEN));
        }
        let upstream_answers = async || {
            let _response = request.send().await;
        };
        self.flights.run((), upstream_answers).await;
        Ok(())
    }
}

#[test]
fn a_refusal_in_the_callback_of_another_stream_does_not_hold_that() {
    let mut proxy = Proxy::with(registration!(Gathering)).start().unwrap();
    let slow = Answer::new(200).delay(Duration::from_millis(100));
    let both = proxy
        .together([
            tollgate::testing::Request::get("/answers").upstream(slow),
            tollgate::testing::Request::get("/waits").after(Duration::from_millis(50)),
        ])
        .unwrap();
    let statuses: Vec<_> =
        both.exchanges().iter().map(tollgate::testing::Exchange::status).collect();
    assert_eq!(statuses, [Some(200), Some(403)], "{both:#}");
}
