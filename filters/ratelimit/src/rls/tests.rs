//! What is written is what a service reads, what a service writes is read, and no bytes are a surprise.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A descriptor as a service reads it: entries, the limit that is sent along, and its own hits.
type Read = (Vec<(String, String)>, Option<(u64, u64)>, Option<u64>);

fn fields(message: &[u8]) -> Vec<(u32, Value<'_>)> {
    Fields::of(message).collect::<Result<_, _>>().unwrap()
}

/// The number of this field; what is not written is 0.
fn number(message: &[u8], field: u32) -> u64 {
    let found = fields(message).into_iter().rfind(|(number, _)| *number == field);
    found.map_or(0, |(_, value)| match value {
        Value::Varint(number) => number,
        other => panic!("{other:?} is no number"),
    })
}

/// The values of this field, each text or a message.
fn all(message: &[u8], field: u32) -> impl Iterator<Item = &[u8]> {
    let found = fields(message).into_iter().filter(move |(number, _)| *number == field);
    found.map(|(_, value)| match value {
        Value::Bytes(bytes) => bytes,
        other => panic!("{other:?} is no text"),
    })
}

/// The text of this field; what is not written is empty.
fn text(message: &[u8], field: u32) -> String {
    let bytes = all(message, field).last().unwrap_or_default();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Domain, descriptors and hits of a request.
fn read_request(message: &[u8]) -> (String, Vec<Read>, u64) {
    let read = |descriptor| {
        let entries = all(descriptor, 1).map(|entry| (text(entry, 1), text(entry, 2))).collect();
        let limit = all(descriptor, 2).last().map(|limit| (number(limit, 1), number(limit, 2)));
        (entries, limit, all(descriptor, 3).last().map(|hits| number(hits, 1)))
    };
    (text(message, 1), all(message, 2).map(read).collect(), number(message, 3))
}

/// A message of two numbers.
fn numbers(first: u64, second: u64) -> Writer {
    Writer::new().number(1, first).number(2, second)
}

/// A status as a service writes it.
fn write_status(status: &DescriptorStatus, unit: u64) -> Writer {
    let mut message = Writer::new().number(1, code_number(status.code));
    if let Some(limit) = status.limit {
        message = message.message(2, &numbers(limit.requests, unit));
    }
    message = message.number(3, status.remaining);
    if let Some(reset) = status.until_reset {
        message = message.message(4, &numbers(reset.as_secs(), reset.subsec_nanos().into()));
    }
    message
}

fn code_number(code: Code) -> u64 {
    match code {
        Code::Unknown => 0,
        Code::Ok => 1,
        Code::OverLimit => 2,
    }
}

fn write(response: &Response, units: &[u64]) -> Vec<u8> {
    let line = |(name, value): &(HeaderName, Vec<u8>), field| {
        Writer::new().bytes(1, name.as_str().as_bytes()).bytes(field, value)
    };
    let mut message = Writer::new().number(1, code_number(response.overall));
    for (status, unit) in response.statuses.iter().zip(units) {
        message = message.message(2, &write_status(status, *unit));
    }
    // A value is text or bytes.
    for header in &response.said.headers {
        message = message.message(3, &line(header, 2));
    }
    for header in &response.request_headers {
        message = message.message(4, &line(header, 3));
    }
    message.bytes(5, &response.said.body).finish()
}

fn codes() -> impl Strategy<Value = Code> {
    prop_oneof![Just(Code::Unknown), Just(Code::Ok), Just(Code::OverLimit)]
}

fn lines() -> impl Strategy<Value = Lines> {
    let name = "[a-z][a-z0-9-]{0,12}".prop_filter("it is taken out", |name| name != "host");
    let name = name.prop_map(|name| HeaderName::new(&name).unwrap());
    let value =
        vec(any::<u8>().prop_filter("no end of a line", |byte| !b"\r\n\0".contains(byte)), 0..20);
    vec((name, value), 0..3)
}

/// A response, and the unit of each of its limits.
fn responses() -> impl Strategy<Value = (Response, Vec<u64>)> {
    let reset = proptest::option::of((0..u64::from(u32::MAX), 0..1_000_000_000_u32));
    let limit = proptest::option::of(any::<u32>());
    let status = (codes(), limit, 0..9_u64, any::<u32>(), reset);
    let status = status.prop_map(|(code, limit, unit, remaining, reset)| {
        let status = DescriptorStatus {
            code,
            limit: limit
                .map(|requests| CurrentLimit { requests: requests.into(), per: unit_of(unit) }),
            remaining: remaining.into(),
            until_reset: reset.map(|(seconds, nanos)| Duration::new(seconds, nanos)),
        };
        (status, unit)
    });
    let body = vec(any::<u8>(), 0..40);
    (codes(), vec(status, 0..5), lines(), lines(), body).prop_map(
        |(overall, statuses, headers, request_headers, body)| {
            let (statuses, units) = statuses.into_iter().unzip();
            let said = Said { headers, body };
            (Response { overall, statuses, said, request_headers }, units)
        },
    )
}

proptest! {
    #[test]
    fn a_service_reads_what_it_is_asked(
        domain in "\\PC{1,10}",
        rules in vec(
            (vec(("[a-z]{1,8}", vec(any::<u8>(), 0..20)), 1..4),
             proptest::option::of((any::<u32>(), 1..8_u8)),
             prop_oneof![0..5_u64, any::<u64>()]),
            1..5,
        ),
    ) {
        let descriptors: Vec<Descriptor> = rules.iter().map(|(entries, limit, _)| Descriptor {
            entries: entries.iter().map(|(name, _)| name.clone()).collect(),
            is_check: false,
            limit: limit.map(|(requests, unit)| SentLimit { requests, unit }),
            overrides: Vec::new(),
        }).collect();
        let asked: Vec<Asked<'_>> = rules.iter().zip(&descriptors).map(|((entries, _, hits), descriptor)| Asked {
            descriptor,
            values: entries.iter().map(|(_, value)| value.as_slice()).collect(),
            limit: descriptor.limit,
            hits: *hits,
        }).collect();
        let (read, told, hits) = read_request(&request(&domain, &asked));
        prop_assert_eq!(read, domain);
        prop_assert_eq!(told.len(), rules.len());
        prop_assert!((1..=u32::MAX.into()).contains(&hits));
        for ((entries, limit, own), (names, sent, due)) in told.into_iter().zip(&rules) {
            let names = names.iter().map(|(name, value)| {
                (name.clone(), String::from_utf8_lossy(value).into_owned())
            });
            prop_assert_eq!(entries, names.collect::<Vec<_>>());
            prop_assert_eq!(limit, sent.map(|(requests, unit)| (requests.into(), unit.into())));
            // Whoever knows hits of descriptors charges what is due; whoever does not, no less.
            prop_assert_eq!(own.unwrap_or(hits), *due);
            prop_assert!(hits >= (*due).min(u32::MAX.into()));
        }
    }

    #[test]
    fn a_response_is_read_as_it_was_written((response, units) in responses()) {
        prop_assert_eq!(Response::read(&write(&response, &units)), Ok(response));
    }

    #[test]
    fn what_is_not_known_is_passed_over(
        (response, units) in responses(),
        field in 6..1_000_u32,
        value: u64,
        bytes in vec(any::<u8>(), 0..20),
    ) {
        let mut message = write(&response, &units);
        message.extend(Writer::new().number(field, value).bytes(field, &bytes).finish());
        prop_assert_eq!(Response::read(&message), Ok(response));
    }

    #[test]
    fn any_bytes_are_a_response_or_an_error(bytes in vec(any::<u8>(), 0..200)) {
        let _ = Response::read(&bytes);
    }

    #[test]
    fn a_broken_response_is_one_or_an_error(
        (response, units) in responses(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        end: prop::sample::Index,
    ) {
        let mut message = write(&response, &units);
        prop_assume!(!message.is_empty());
        for (at, byte) in changes {
            let at = at.index(message.len());
            message[at] = byte;
            if let Ok(read) = Response::read(&message) {
                let lines = read.said.headers.iter().chain(&read.request_headers);
                for (_, value) in lines {
                    prop_assert!(!value.iter().any(|byte| b"\r\n\0".contains(byte)));
                }
            }
        }
        message.truncate(end.index(message.len()));
        let _ = Response::read(&message);
    }
}

/// What a response of these fields is read as.
fn check(message: Writer, expected: Result<&Response, InvalidResponse>) {
    let message = message.finish();
    assert_eq!(Response::read(&message).as_ref(), expected.as_ref().map(|r| *r), "{message:x?}");
}

#[test]
fn a_field_of_another_type_is_refused_at_every_depth() {
    let text = |field| Writer::new().bytes(field, b"x");
    let count = |field| Writer::new().number(field, 1);
    let status = |inner: &Writer| Writer::new().message(2, inner);
    for (message, number) in [
        (text(1), 1),
        (count(2), 2),
        (count(3), 3),
        (count(4), 4),
        (count(5), 5),
        (status(&text(1)), 1),
        (status(&count(2)), 2),
        (status(&text(3)), 3),
        (status(&count(4)), 4),
        (status(&Writer::new().message(2, &text(1))), 1),
        (status(&Writer::new().message(2, &text(2))), 2),
        (status(&Writer::new().message(4, &text(1))), 1),
        (status(&Writer::new().message(4, &text(2))), 2),
        (Writer::new().message(3, &count(1)), 1),
        (Writer::new().message(4, &count(3)), 3),
    ] {
        check(message, Err(InvalidResponse::Kind { number }));
    }
}

#[test]
fn a_header_that_cannot_be_added_is_refused() {
    let line = |name: &[u8], value: &[u8]| Writer::new().bytes(1, name).bytes(2, value);
    for inner in [
        line(b"", b"a"),
        line(b":path", b"/admin"),
        line(b"x y", b"a"),
        line(b"\xff", b"a"),
        line(b"x-a", b"a\r\nx-admin: 1"),
        line(b"x-a", b"a\n"),
        line(b"x-a", b"\0"),
    ] {
        for field in [3, 4] {
            check(Writer::new().message(field, &inner), Err(InvalidResponse::Header));
        }
    }
}

#[test]
fn numbers_beyond_the_protocol_are_bounded() {
    let of = |status| Response { statuses: vec![status], ..Response::default() };
    let negative = u64::from_le_bytes((-5_i64).to_le_bytes());
    let duration = |seconds, nanos| {
        Writer::new().message(2, &Writer::new().message(4, &numbers(seconds, nanos)))
    };
    let until =
        |reset| of(DescriptorStatus { until_reset: Some(reset), ..DescriptorStatus::default() });
    check(duration(negative, 0), Ok(&until(Duration::ZERO)));
    check(duration(3, negative), Ok(&until(Duration::from_secs(3))));
    check(duration(1, 2_500_000_000), Ok(&until(Duration::from_millis(3_500))));
    check(
        duration(u64::MAX >> 1, u64::MAX >> 1),
        Ok(&until(Duration::from_secs(u64::MAX >> 1) + Duration::from_nanos(u64::MAX >> 1))),
    );
    for code in [0, 3, 700, u64::MAX] {
        check(Writer::new().number(1, code), Ok(&Response::default()));
    }
    for (unit, per) in [(5, 30 * 24), (6, 365 * 24), (7, 7 * 24), (0, 0), (8, 0), (u64::MAX, 0)] {
        let limit = Some(CurrentLimit { requests: 0, per: Duration::from_hours(per) });
        let message = Writer::new().message(2, &Writer::new().number(2, unit));
        check(
            Writer::new().message(2, &message),
            Ok(&of(DescriptorStatus { limit, ..DescriptorStatus::default() })),
        );
    }
}
