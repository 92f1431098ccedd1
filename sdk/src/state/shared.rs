//! One value that all workers share.

use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU32;

use super::record::{InvalidRecord, Record, decode, encode};
use super::{ATTEMPTS, State};
use crate::host_error::HostError;
use crate::shared_data::{Update, UpdateError, Write};

/// A value that all workers share. From [`State::shared`].
#[derive(Debug)]
pub struct Shared<R> {
    key: String,
    record: PhantomData<fn() -> R>,
}

/// What is to become of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<R, T> {
    /// It stays as it is.
    Keep(T),
    /// It is replaced by the first field. The second is what the update gives once it is written.
    Write(R, T),
}

impl<R: Record> Shared<R> {
    pub(super) fn new(key: String) -> Self {
        Self { key, record: PhantomData }
    }

    /// The value; `None` when there is none.
    ///
    /// # Errors
    ///
    /// [`StateError`] when it cannot be read, or when the host refuses.
    pub fn read(&self) -> Result<Option<R>, StateError> {
        match State::data().get(self.key.as_bytes())? {
            Some(found) => Ok(Some(decode(&found.value)?)),
            None => Ok(None),
        }
    }

    /// Writes a value where there is none; one that is there stays.
    ///
    /// # Errors
    ///
    /// [`HostError`] when the host refuses.
    pub fn create(&self, value: &R) -> Result<Write, HostError> {
        State::data().create(self.key.as_bytes(), &encode(value))
    }

    /// Reads the value, lets `decide` say what becomes of it, and writes that unless another worker has
    /// come first: then again, at most [`ATTEMPTS`] times in all. Gives what `decide` said last.
    ///
    /// # Errors
    ///
    /// [`StateError`] when it cannot be read, when others always came first, or when the host refuses.
    pub fn update<T>(
        &self,
        mut decide: impl FnMut(Option<R>) -> Change<R, T>,
    ) -> Result<T, StateError> {
        let update = |stored: Option<&[u8]>| match stored.map(decode).transpose() {
            Err(invalid) => Update::Keep(Err(invalid)),
            Ok(value) => match decide(value) {
                Change::Keep(outcome) => Update::Keep(Ok(outcome)),
                Change::Write(value, outcome) => Update::Write(encode(&value), Ok(outcome)),
            },
        };
        Ok(State::data().update(self.key.as_bytes(), ATTEMPTS, update)??)
    }

    /// Writes the value in place of whatever is there, also of what cannot be read.
    ///
    /// # Errors
    ///
    /// [`StateError`] when others always came first, or when the host refuses.
    pub fn overwrite(&self, value: &R) -> Result<(), StateError> {
        let update = |_: Option<&[u8]>| Update::Write(encode(value), ());
        Ok(State::data().update(self.key.as_bytes(), ATTEMPTS, update)?)
    }
}

/// Why state was not read or not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateError {
    /// What is there was not written by this version of the filter. It can be overwritten.
    Record(InvalidRecord),
    /// Another worker came first, each time.
    Contended {
        /// How often it was tried.
        attempts: NonZeroU32,
    },
    /// The host refused.
    Host(HostError),
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(error) => write!(f, "{error}"),
            Self::Contended { attempts } => {
                write!(f, "{}", UpdateError::Contended { attempts: *attempts })
            }
            Self::Host(error) => write!(f, "{error}"),
        }
    }
}

impl Error for StateError {}

impl From<InvalidRecord> for StateError {
    fn from(error: InvalidRecord) -> Self {
        Self::Record(error)
    }
}

impl From<HostError> for StateError {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}

impl From<UpdateError> for StateError {
    fn from(error: UpdateError) -> Self {
        match error {
            UpdateError::Contended { attempts } => Self::Contended { attempts },
            UpdateError::Host(error) => Self::Host(error),
        }
    }
}
