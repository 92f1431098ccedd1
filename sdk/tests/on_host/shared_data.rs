//! Shared data on hosts that differ in what the ABI leaves open.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::num::NonZeroU32;

use tollgate::shared_data::{Update, UpdateError, Write};
use tollgate::{
    ConfigureError, Filter, OnRequestHeaders, Outcome, Registration, RequestHeaders, Root,
    SharedData, registration,
};
use tollgate_abi::{Answer, Call, Callback, Function, Reply, Status};

use tollgate_host_native::on_host;

/// How a host takes a number for a key that is not there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Absent {
    /// Any number creates; 0 overwrites whatever is there.
    AnyNumber,
    /// 0 and only 0 creates, and never overwrites.
    OnlyZero,
}

/// A host with shared data, on which another writer acts right after each of the first `outrun` reads.
struct Host {
    absent: Absent,
    values: BTreeMap<Vec<u8>, (Vec<u8>, u32)>,
    last_cas: u32,
    outrun: u32,
}

impl Host {
    fn new(absent: Absent, outrun: u32) -> Self {
        Self { absent, values: BTreeMap::new(), last_cas: 0, outrun }
    }

    fn answer(&mut self, call: &Call) -> Reply {
        match call {
            Call::GetSharedData { key } => {
                let found = self.values.get(key).cloned();
                if self.outrun > 0 {
                    self.outrun -= 1;
                    self.write(key, b"other");
                }
                match found {
                    Some((value, cas)) => Reply::Done(Answer::Shared { value, cas }),
                    None => Reply::refused(Status::NotFound, ""),
                }
            }
            Call::SetSharedData { key, value, cas } => {
                let fits = match (self.values.get(key), self.absent) {
                    (None, Absent::AnyNumber) => true,
                    (None, Absent::OnlyZero) => *cas == 0,
                    (Some((_, current)), Absent::AnyNumber) => *cas == 0 || cas == current,
                    (Some((_, current)), Absent::OnlyZero) => cas == current,
                };
                if !fits {
                    return Reply::refused(Status::CasMismatch, "");
                }
                self.write(key, value);
                Reply::OK
            }
            _ => match call.function() {
                Function::GetLogLevel => Reply::Done(Answer::U32(2)),
                _ => Reply::OK,
            },
        }
    }

    fn write(&mut self, key: &[u8], value: &[u8]) {
        self.last_cas += 1;
        self.values.insert(key.to_vec(), (value.to_vec(), self.last_cas));
    }
}

/// Only there for its root, which hands out shared data.
struct Holder;

thread_local! {
    static SHARED: Cell<Option<SharedData>> = const { Cell::new(None) };
}

impl Filter for Holder {
    const NAME: &'static str = "holder";
    type Config = tollgate::config::NoConfig;
    type Stream = ();

    fn configure(_: Self::Config, root: &Root) -> Result<Self, ConfigureError> {
        SHARED.set(Some(root.shared_data()));
        Ok(Self)
    }
}

impl OnRequestHeaders for Holder {
    fn on_request_headers(&self, (): &mut (), _: &mut RequestHeaders) -> Outcome {
        Ok(())
    }
}

/// Runs `test` with the shared data of `host`.
fn with_shared_data(mut host: Host, test: impl FnOnce(SharedData) + Send + 'static) {
    on_host(
        move |call| host.answer(call),
        move || {
            let Registration { start, call, .. } = registration!(Holder);
            start();
            call(Callback::ContextCreate { context: 1, parent: 0 });
            call(Callback::Configure { context: 1, configuration_size: 0 });
            test(SHARED.take().unwrap());
        },
    );
}

const BOTH: [Absent; 2] = [Absent::AnyNumber, Absent::OnlyZero];

fn attempts(attempts: u32) -> NonZeroU32 {
    NonZeroU32::new(attempts).unwrap()
}

/// Appends a letter, and gives how long the value was.
fn append(letter: u8) -> impl FnMut(Option<&[u8]>) -> Update<usize> {
    move |value| {
        let value = value.unwrap_or_default();
        Update::Write([value, &[letter]].concat(), value.len())
    }
}

fn value(shared: SharedData, key: &[u8]) -> Option<Vec<u8>> {
    shared.get(key).unwrap().map(|found| found.value)
}

#[test]
fn a_value_is_created_once() {
    for absent in BOTH {
        with_shared_data(Host::new(absent, 0), |shared| {
            assert_eq!(shared.get(b"k"), Ok(None));
            assert_eq!(shared.create(b"k", b"first"), Ok(Write::Done));
            assert_eq!(shared.create(b"k", b"second"), Ok(Write::Outrun));
            assert_eq!(value(shared, b"k"), Some(b"first".to_vec()));
        });
    }
}

#[test]
fn a_value_is_replaced_only_by_who_has_read_it_last() {
    for absent in BOTH {
        with_shared_data(Host::new(absent, 0), |shared| {
            assert_eq!(shared.create(b"k", b"a"), Ok(Write::Done));
            let read = shared.get(b"k").unwrap().unwrap();
            assert_eq!(shared.set(b"k", b"b", read.cas), Ok(Write::Done));
            assert_eq!(shared.set(b"k", b"c", read.cas), Ok(Write::Outrun));
            assert_eq!(value(shared, b"k"), Some(b"b".to_vec()));
        });
    }
}

#[test]
fn an_update_sees_what_it_replaces() {
    for absent in BOTH {
        with_shared_data(Host::new(absent, 0), |shared| {
            assert_eq!(shared.update(b"k", attempts(1), append(b'a')), Ok(0));
            assert_eq!(shared.update(b"k", attempts(1), append(b'b')), Ok(1));
            let kept =
                shared.update(b"k", attempts(1), |value| Update::Keep(value.map(<[u8]>::len)));
            assert_eq!(kept, Ok(Some(2)));
            assert_eq!(value(shared, b"k"), Some(b"ab".to_vec()));
        });
    }
}

#[test]
fn an_update_that_is_outrun_tries_again() {
    for absent in BOTH {
        with_shared_data(Host::new(absent, 1), |shared| {
            assert_eq!(shared.update(b"k", attempts(2), append(b'a')), Ok(5));
            assert_eq!(value(shared, b"k"), Some(b"othera".to_vec()));
        });
    }
}

#[test]
fn an_update_that_is_always_outrun_gives_up() {
    for absent in BOTH {
        let mut host = Host::new(absent, 3);
        host.write(b"k", b"old");
        with_shared_data(host, |shared| {
            let contended = UpdateError::Contended { attempts: attempts(3) };
            assert_eq!(shared.update(b"k", attempts(3), append(b'a')), Err(contended));
            assert_eq!(value(shared, b"k"), Some(b"other".to_vec()));
        });
    }
}
