//! Values that all workers of a proxy share, changed by compare-and-swap.
//!
//! The proxy cannot delete or list them: a filter must not let a client make up keys. In Envoy, all
//! plugins with one `vm_id` see the same keys, in Istio thus all plugins: a key begins with what is
//! the filter's own.

use std::error::Error;
use std::fmt;
use std::num::NonZeroU32;

use tollgate_abi::{Function, Status};

use crate::host;
use crate::host_error::HostError;

/// A number that no host gives to a value before it has counted through 32 bits.
const NEVER_ISSUED: u32 = u32::MAX;
/// What stands for "there is no value" on hosts that compare the number also then.
const ABSENT: u32 = 0;

/// The values that all workers share. From [`Root::shared_data`](crate::Root::shared_data).
#[derive(Clone, Copy, Debug)]
pub struct SharedData(());

/// A value, and what writing it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// The value.
    pub value: Vec<u8>,
    /// The number that stands for this value, and for none that is written later.
    pub cas: Cas,
}

/// The number under which the host keeps a value until it is written again. Never 0, which hosts take
/// for "write in any case".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cas(NonZeroU32);

/// Whether a value was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "what was not written is not there"]
pub enum Write {
    /// It was.
    Done,
    /// It was not: another writer came first.
    Outrun,
}

/// What is to become of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update<T> {
    /// It stays as it is.
    Keep(T),
    /// It is replaced by this one. The second field is what [`SharedData::update`] gives once it is
    /// written.
    Write(Vec<u8>, T),
}

impl SharedData {
    pub(crate) const fn new() -> Self {
        Self(())
    }

    /// Reads a value; `None` when there is none.
    ///
    /// # Errors
    ///
    /// [`HostError`] when the host refuses.
    pub fn get(&self, key: &[u8]) -> Result<Option<Versioned>, HostError> {
        let (value, cas) = match host::shared_data(key) {
            Ok(found) => found,
            Err(error) if error.status() == Some(Status::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        let cas = NonZeroU32::new(cas)
            .map(Cas)
            .ok_or(HostError::NoCas { function: Function::GetSharedData })?;
        Ok(Some(Versioned { value, cas }))
    }

    /// Replaces the value that was read with this number.
    ///
    /// # Errors
    ///
    /// [`HostError`] when the host refuses for another reason than the number.
    pub fn set(&self, key: &[u8], value: &[u8], cas: Cas) -> Result<Write, HostError> {
        write(key, value, cas.0.get())
    }

    /// Writes a value where there is none.
    ///
    /// The ABI has no such call, and hosts differ: Envoy takes any number for an absent key, so that
    /// one which stands for no value creates; nginx (Kong) takes 0 and only 0.
    ///
    /// # Errors
    ///
    /// [`HostError`] when the host refuses.
    pub fn create(&self, key: &[u8], value: &[u8]) -> Result<Write, HostError> {
        match write(key, value, NEVER_ISSUED)? {
            Write::Done => Ok(Write::Done),
            Write::Outrun => match self.get(key)? {
                Some(_) => Ok(Write::Outrun),
                None => write(key, value, ABSENT),
            },
        }
    }

    /// Reads a value, lets `decide` say what becomes of it, and writes that unless another writer has
    /// come first: then again, at most `attempts` times in all. Gives what `decide` said last.
    ///
    /// # Errors
    ///
    /// [`UpdateError`] when other writers always came first, or when the host refuses.
    pub fn update<T>(
        &self,
        key: &[u8],
        attempts: NonZeroU32,
        mut decide: impl FnMut(Option<&[u8]>) -> Update<T>,
    ) -> Result<T, UpdateError> {
        for _ in 0..attempts.get() {
            let current = self.get(key)?;
            let value = current.as_ref().map(|current| current.value.as_slice());
            let (value, outcome) = match decide(value) {
                Update::Keep(outcome) => return Ok(outcome),
                Update::Write(value, outcome) => (value, outcome),
            };
            let write = match current {
                Some(current) => self.set(key, &value, current.cas)?,
                None => self.create(key, &value)?,
            };
            match write {
                Write::Done => return Ok(outcome),
                Write::Outrun => {}
            }
        }
        Err(UpdateError::Contended { attempts })
    }
}

/// Why a value was not updated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateError {
    /// Another writer came first, each time.
    Contended {
        /// How often it was tried.
        attempts: NonZeroU32,
    },
    /// The host refused.
    Host(HostError),
}

impl fmt::Display for UpdateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Contended { attempts } => {
                write!(f, "another worker came first in each of {attempts} attempts")
            }
            Self::Host(error) => write!(f, "{error}"),
        }
    }
}

impl Error for UpdateError {}

impl From<HostError> for UpdateError {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}

fn write(key: &[u8], value: &[u8], cas: u32) -> Result<Write, HostError> {
    match host::set_shared_data(key, value, cas) {
        Ok(()) => Ok(Write::Done),
        Err(error) if error.status() == Some(Status::CasMismatch) => Ok(Write::Outrun),
        Err(error) => Err(error),
    }
}
