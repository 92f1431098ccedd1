//! Charging what the proxy's workers share: all limits of a request, or none of them.
//!
//! Each limit is a record of its own, changed by one compare-and-swap. Of several, all are looked at
//! first and nothing is written when one refuses; then they are charged one after the other, and what
//! was charged is given back when a worker that came between has left nothing for a later one. For that
//! moment others may see less than there is, and never more.
//!
//! Not here: which limits a request has, and what becomes of it.

#[cfg(test)]
mod tests;

use std::error::Error;
use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};

use tollgate::shared_data::{Update, UpdateError};
use tollgate::{HostError, SharedData};

use crate::gcra::{Decision, UnixNanos};
use crate::quota::Quota;
use crate::table::{Bucket, Charge, Fingerprint, InvalidRecord};

/// How often a record is tried to be written. Workers that charge one record at the same instant
/// outrun each other, and one of them succeeds each time.
const ATTEMPTS: NonZeroU32 = NonZeroU32::new(32).unwrap();

/// The records that several workers change. Another may come between any two reads and writes.
pub(crate) trait Records {
    /// What has been stored under a name.
    fn read(&self, record: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Replaces a record as `decide` says, which is asked anew when another worker came first.
    fn change<T>(
        &self,
        record: &str,
        decide: impl FnMut(Option<&[u8]>) -> Update<T>,
    ) -> Result<T, StoreError>;
}

impl Records for SharedData {
    fn read(&self, record: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.get(record.as_bytes())?.map(|stored| stored.value))
    }

    fn change<T>(
        &self,
        record: &str,
        decide: impl FnMut(Option<&[u8]>) -> Update<T>,
    ) -> Result<T, StoreError> {
        Ok(self.update(record.as_bytes(), ATTEMPTS, decide)?)
    }
}

/// What a request is to be charged to.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    /// The name of the record.
    pub(crate) record: String,
    /// Whom in it.
    pub(crate) fingerprint: Fingerprint,
    /// How much that one may spend.
    pub(crate) quota: &'a Quota,
    /// How much this request costs.
    pub(crate) cost: NonZeroU64,
}

/// Why a request could not be charged, and which claim it was.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) claim: usize,
    pub(crate) error: StoreError,
}

/// Why a claim could not be charged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StoreError {
    Record(InvalidRecord),
    Update(UpdateError),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(invalid) => write!(f, "{invalid}"),
            Self::Update(error) => write!(f, "{error}"),
        }
    }
}

impl Error for StoreError {}

impl From<InvalidRecord> for StoreError {
    fn from(invalid: InvalidRecord) -> Self {
        Self::Record(invalid)
    }
}

impl From<UpdateError> for StoreError {
    fn from(error: UpdateError) -> Self {
        Self::Update(error)
    }
}

impl From<HostError> for StoreError {
    fn from(error: HostError) -> Self {
        Self::Update(error.into())
    }
}

/// Charges all claims, or none. Gives what each has come to; if one of them refuses, nothing is charged.
///
/// # Errors
///
/// [`Failed`] when a record cannot be read or written; then nothing is charged, as far as it can be given
/// back, which `given_back` is told about.
pub(crate) fn charge_all<'a>(
    records: &impl Records,
    claims: &[impl AsRef<Claim<'a>>],
    now: UnixNanos,
    given_back: impl Fn(Result<(), StoreError>),
) -> Result<Vec<Charge>, Failed> {
    let failed = |claim| move |error| Failed { claim, error };
    let mut charges = Vec::with_capacity(claims.len());
    if claims.len() > 1 {
        for (at, claim) in claims.iter().enumerate() {
            charges.push(look(records, claim.as_ref(), now).map_err(failed(at))?);
        }
        if !charges.iter().all(Charge::is_admitted) {
            return Ok(charges);
        }
        charges.clear();
    }
    for (at, claim) in claims.iter().enumerate() {
        let charged = charge(records, claim.as_ref(), now);
        // Another worker may have come between: what it has left decides.
        if !charged.as_ref().is_ok_and(Charge::is_admitted) {
            for (claim, charge) in claims.iter().zip(&charges) {
                given_back(refund(records, claim.as_ref(), charge));
            }
            charges.push(charged.map_err(failed(at))?);
            break;
        }
        charges.push(charged.map_err(failed(at))?);
    }
    Ok(charges)
}

/// Charges one claim.
#[inline(never)]
pub(crate) fn charge(
    records: &impl Records,
    claim: &Claim<'_>,
    now: UnixNanos,
) -> Result<Charge, StoreError> {
    let charged = records.change(&claim.record, |stored| {
        let mut bucket = match stored.map(Bucket::decode) {
            None => Bucket::default(),
            Some(Ok(bucket)) => bucket,
            Some(Err(invalid)) => return Update::Keep(Err(invalid)),
        };
        let charge = bucket.charge(claim.fingerprint, now, claim.quota, claim.cost);
        if charge.changed {
            Update::Write(bucket.encode(), Ok(charge))
        } else {
            Update::Keep(Ok(charge))
        }
    })?;
    Ok(charged?)
}

/// What charging a claim would come to.
fn look(records: &impl Records, claim: &Claim<'_>, now: UnixNanos) -> Result<Charge, StoreError> {
    let mut bucket = match records.read(&claim.record)? {
        None => Bucket::default(),
        Some(stored) => Bucket::decode(&stored)?,
    };
    Ok(bucket.charge(claim.fingerprint, now, claim.quota, claim.cost))
}

#[cold]
#[inline(never)]
fn refund(records: &impl Records, claim: &Claim<'_>, charge: &Charge) -> Result<(), StoreError> {
    let refunded = records.change(&claim.record, |stored| {
        let mut bucket = match stored.map(Bucket::decode) {
            None => return Update::Keep(Ok(())),
            Some(Ok(bucket)) => bucket,
            Some(Err(invalid)) => return Update::Keep(Err(invalid)),
        };
        bucket.refund(claim.fingerprint, charge.placed, claim.quota, claim.cost);
        Update::Write(bucket.encode(), Ok(()))
    })?;
    Ok(refunded?)
}

impl Charge {
    /// Whether the request passes.
    pub(crate) fn is_admitted(&self) -> bool {
        matches!(self.decision, Decision::Admitted { .. })
    }
}
