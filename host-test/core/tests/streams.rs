//! Streams that are fed part by part, as sockets would feed them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::time::Duration;

use common::{Behaviour, CONTINUE, STOP, agree, respond, start, status};
use tollgate_abi::{Call, Callback, Status, StreamType};
use tollgate_host::offline::{Event, Head, Over, Part, Run, Sent, StreamId};
use tollgate_host::world::World;

const ONE: &str = "{ name: fed, filters: [ { filter: guest } ], steps: [ { request: {} } ] }";
const TWO: &str =
    "{ name: fed, workers: 2, filters: [ { filter: guest } ], steps: [ { request: {} } ] }";

fn head(method: &str, path: &str) -> Head {
    let (method, path) = (method.to_owned(), path.to_owned());
    Head { method, path, authority: "example.com".into(), headers: Vec::new() }
}

/// What was done with streams, a line each.
fn told(run: &mut Run) -> Vec<String> {
    std::iter::from_fn(|| run.next_event())
        .map(|(id, event)| format!("{id}: {}", show(event)))
        .collect()
}

fn show(event: Event) -> String {
    match event {
        Event::Request(Sent::Head { head, end }) => {
            format!("to upstream {} {end}", head.path.escape_ascii())
        }
        Event::Request(Sent::Part(part)) => format!("to upstream {}", show_part(part)),
        Event::GivesUp => "gives up".into(),
        Event::Response(Sent::Head { head, end }) => format!("to client {} {end}", head.status),
        Event::Response(Sent::Part(part)) => format!("to client {}", show_part(part)),
        Event::Over(Over { is_reset, has_arrived }) => format!("over {is_reset} {has_arrived}"),
    }
}

fn show_part(part: Part) -> String {
    match part {
        Part::Body(bytes) | Part::Last(bytes) => format!("\"{}\"", bytes.escape_ascii()),
        Part::Trailers(lines) => format!("{} trailers", lines.len()),
        Part::End => "end".into(),
    }
}

/// Lets everything pass.
const PASSING: Behaviour = |_, callback| Ok(agree(callback));

/// Holds the headers of a request, until another stream comes whose path is `/go`: that lets go the first.
const RELEASED_BY_ANOTHER: Behaviour = |world, callback| {
    let Callback::RequestHeaders { context, .. } = callback else { return Ok(agree(callback)) };
    if *context == 2 {
        return Ok(STOP);
    }
    let set = world.handle(Call::SetEffectiveContext { context: 2 });
    if status(&set) == Status::Ok {
        world.handle(Call::ContinueStream { stream: StreamType::HttpRequest });
    }
    Ok(CONTINUE)
};

/// Holds the headers of the first stream; the second answers it.
const ANSWERED_BY_ANOTHER: Behaviour = |world: &mut World, callback: &Callback| {
    let Callback::RequestHeaders { context, .. } = callback else { return Ok(agree(callback)) };
    if *context == 2 {
        return Ok(STOP);
    }
    world.handle(Call::SetEffectiveContext { context: 2 });
    respond(world, 403, &[], "");
    Ok(CONTINUE)
};

fn open(run: &mut Run, worker: usize, path: &str) -> StreamId {
    run.open(worker, head("GET", path), true).unwrap()
}

#[test]
fn messages_pass_as_they_come_and_the_end_is_told() {
    let mut run = start(PASSING, ONE);
    let id = run.open(0, head("POST", "/a"), false).unwrap();
    assert_eq!(told(&mut run), ["1: to upstream /a false"]);
    run.connect_upstream(id);
    run.send_request(id, Part::Body(b"ab".to_vec()));
    run.send_request(id, Part::Trailers(vec![(b"x-sum".to_vec(), b"2".to_vec())]));
    assert_eq!(told(&mut run), ["1: to upstream \"ab\"", "1: to upstream 1 trailers"]);
    run.begin_response(id, 201, Vec::new(), false);
    run.send_response(id, Part::Body(b"c".to_vec()));
    assert_eq!(told(&mut run), ["1: to client 201 false", "1: to client \"c\""]);
    run.send_response(id, Part::End);
    assert_eq!(told(&mut run), ["1: to client end", "1: over false true"]);
    // Nothing comes of what comes after.
    run.send_response(id, Part::End);
    run.leave(id);
    assert_eq!(told(&mut run), [""; 0]);
}

#[test]
fn a_client_that_leaves_ends_its_stream_alone() {
    let mut run = start(PASSING, ONE);
    let (first, second) = (open(&mut run, 0, "/a"), open(&mut run, 0, "/b"));
    assert_eq!(told(&mut run), ["1: to upstream /a true", "2: to upstream /b true"]);
    run.leave(first);
    assert_eq!(told(&mut run), ["1: gives up", "1: over false true"]);
    run.begin_response(second, 200, Vec::new(), true);
    assert_eq!(told(&mut run), ["2: to client 200 true", "2: over false true"]);
}

#[test]
fn one_stream_lets_another_go() {
    let mut run = start(RELEASED_BY_ANOTHER, ONE);
    open(&mut run, 0, "/held");
    assert_eq!(told(&mut run), [""; 0]);
    open(&mut run, 0, "/go");
    // As on Envoy: what was asked for is done when the callback has returned, before what it returned.
    assert_eq!(told(&mut run), ["1: to upstream /held true", "2: to upstream /go true"]);
}

#[test]
fn one_stream_answers_another() {
    let mut run = start(ANSWERED_BY_ANOTHER, ONE);
    open(&mut run, 0, "/held");
    open(&mut run, 0, "/go");
    // As on Envoy: who answers another is held itself, whatever it returned.
    assert_eq!(told(&mut run), ["1: to client 403 true", "1: over false false"]);
}

#[test]
fn streams_of_two_workers_do_not_know_each_other() {
    let mut run = start(RELEASED_BY_ANOTHER, TWO);
    open(&mut run, 0, "/held");
    open(&mut run, 1, "/also-held");
    assert_eq!(told(&mut run), [""; 0]);
    assert!(run.open(2, head("GET", "/"), true).is_err());
}

#[test]
fn an_upstream_that_breaks_off_is_answered_for() {
    let mut run = start(PASSING, ONE);
    let id = open(&mut run, 0, "/a");
    run.break_upstream(id);
    let expected = ["1: to upstream /a true", "1: to client 503 false"];
    let told = told(&mut run);
    assert_eq!(told[..2], expected);
    assert_eq!(told.last().unwrap(), "1: over false true");
    run.pass_until(Duration::from_secs(1)).unwrap();
    assert_eq!(run.now(), Duration::from_secs(1));
}
