//! TCP connections: each is decided about on its own, and closed when a handler says so.

use tollgate::{
    CallbackKind, CloseConnection, DownstreamData, LoggedExchange, OnConnection, OnDownstreamClose,
    OnDownstreamData, OnLog, OnUpstreamClose, OnUpstreamData, PeerType, UpstreamData, registration,
};
use tollgate_abi::{Answer, Call, Callback, Function, Reply, Status};

use crate::scripted::{filter, play};

filter!(Greeted, usize);

impl OnConnection for Greeted {
    fn on_connection(&self, seen: &mut usize) -> Result<(), CloseConnection> {
        *seen = 1;
        Ok(())
    }
}

impl OnDownstreamData for Greeted {
    fn on_downstream_data(
        &self,
        seen: &mut usize,
        data: &mut DownstreamData,
    ) -> Result<(), CloseConnection> {
        if data.read(0..3)? != b"SSH" {
            return Err(CloseConnection::because("not the protocol of this port"));
        }
        *seen += data.len();
        data.prepend("<")?;
        data.replace_part(0..data.len(), if data.is_last() { "last" } else { "more" })?;
        Ok(())
    }
}

impl OnUpstreamData for Greeted {
    fn on_upstream_data(
        &self,
        _: &mut usize,
        data: &mut UpstreamData,
    ) -> Result<(), CloseConnection> {
        data.append(">")?;
        if data.is_last() { Err(CloseConnection::silently()) } else { Ok(()) }
    }
}

impl OnDownstreamClose for Greeted {
    fn on_downstream_close(&self, seen: &mut usize, by: PeerType) {
        tollgate::log::info!("downstream closed by {by} after {seen}");
    }
}

impl OnUpstreamClose for Greeted {
    fn on_upstream_close(&self, seen: &mut usize, by: PeerType) {
        tollgate::log::info!("upstream closed by {by} after {seen}");
    }
}

impl OnLog for Greeted {
    fn on_log(&self, seen: &mut usize, exchange: &mut LoggedExchange) {
        tollgate::log::info!(
            "{seen} {:?}",
            exchange.request().map(tollgate::Headers::len).is_err()
        );
    }
}

filter!(Watching, ());

impl OnUpstreamClose for Watching {
    fn on_upstream_close(&self, (): &mut (), _: PeerType) {}
}

const CONTINUE: u32 = 0;
const STOP: u32 = 1;
const CLOSE: &str = "proxy_close_stream(stream=downstream)";

fn sending(bytes: &'static [u8]) -> impl FnMut(&Call) -> Option<Reply> + Send + 'static {
    move |call| {
        let is_read = call.function() == Function::GetBufferBytes;
        is_read.then(|| Reply::Done(Answer::Bytes(bytes.to_vec())))
    }
}

fn downstream(end_of_stream: bool) -> Callback {
    Callback::DownstreamData { context: 2, size: 3, end_of_stream }
}

fn upstream(end_of_stream: bool) -> Callback {
    Callback::UpstreamData { context: 2, size: 3, end_of_stream }
}

#[test]
fn a_module_needs_the_callbacks_of_its_phases() {
    use CallbackKind::{
        Configure, ContextCreate, Delete, DownstreamConnectionClose, DownstreamData, Log,
        NewConnection, UpstreamConnectionClose, UpstreamData,
    };
    assert_eq!(
        (registration!(Greeted).callbacks)(),
        [
            ContextCreate,
            Configure,
            NewConnection,
            DownstreamData,
            DownstreamConnectionClose,
            UpstreamData,
            UpstreamConnectionClose,
            Log,
            Delete,
        ]
    );
    let of_watching = [Configure, UpstreamConnectionClose];
    assert_eq!((registration!(Watching).callbacks)(), of_watching);
}

#[test]
fn data_is_read_and_changed_and_a_connection_keeps_its_state() {
    let context = 2;
    let played = play(
        registration!(Greeted),
        sending(b"SSH"),
        vec![
            Callback::NewConnection { context },
            downstream(false),
            downstream(true),
            upstream(false),
            Callback::DownstreamConnectionClose { context, peer: 2 },
            Callback::UpstreamConnectionClose { context, peer: 9 },
            Callback::Log { context },
        ],
    );
    assert!(played.iter().all(|(returned, _)| *returned == CONTINUE), "{played:?}");
    let read = "proxy_get_buffer_bytes(buffer=downstream_data, start=0, max_size=3)";
    let set = |buffer, start, size, value| {
        format!(
            "proxy_set_buffer_bytes(buffer={buffer}, start={start}, size={size}, value=\"{value}\")"
        )
    };
    let log = |line| format!("proxy_log(level=info, message=\"Greeted: {line}\")");
    let calls: Vec<_> = played.into_iter().flat_map(|(_, calls)| calls).collect();
    assert_eq!(
        calls,
        [
            read.to_owned(),
            set("downstream_data", 0, 0, "<"),
            set("downstream_data", 0, 4, "more"),
            read.to_owned(),
            set("downstream_data", 0, 0, "<"),
            set("downstream_data", 0, 4, "last"),
            set("upstream_data", 3, 0, ">"),
            log("downstream closed by remote after 7"),
            log("upstream closed by 9 after 7"),
            "proxy_get_header_map_pairs(map=request_headers)".to_owned(),
            log("7 true"),
        ]
    );
}

#[test]
fn a_connection_is_closed_with_its_cause_or_without_a_word() {
    let played =
        play(registration!(Greeted), sending(b"GET"), vec![downstream(false), upstream(true)]);
    let [(down, down_calls), (up, up_calls)] = &played[..] else { panic!("{played:?}") };
    assert_eq!((*down, *up), (STOP, STOP));
    let line = "proxy_log(level=warn, message=\"Greeted: the connection is closed: not the protocol \
                of this port\")";
    assert_eq!(down_calls[1..], [line.to_owned(), CLOSE.to_owned()]);
    assert_eq!(up_calls[1..], [CLOSE.to_owned()]);
}

#[test]
fn what_cannot_be_read_or_closed_does_not_pass() {
    for status in [1, 2, 10, u32::MAX] {
        let refusing = move |call: &Call| {
            let is_log = matches!(call.function(), Function::Log | Function::GetLogLevel);
            (!is_log).then(|| Reply::refused(Status::from(status), ""))
        };
        let played =
            play(registration!(Greeted), refusing, vec![downstream(false), upstream(false)]);
        for (returned, calls) in played {
            assert_eq!(returned, STOP);
            assert!(calls.last().unwrap().contains("the connection is held"), "{calls:?}");
        }
    }
}
