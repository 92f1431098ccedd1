//! Attributes: what the proxy knows of a request, its connection, its route and itself, each with its
//! type.
//!
//! Every attribute of Envoy 1.40 is a constant of its family, such as
//! [`connection::REQUESTED_SERVER_NAME`]; those that take a name are functions, such as
//! [`request::header`]. All are read by one function, [`Attribute::read`], which tells apart an attribute
//! that is absent, one that is of another type than it should be, and a host that refuses.
//!
//! Most attributes come and go with the phases of a stream. What a later phase needs is kept in a
//! [`Snapshot`], which is a value and belongs into the state of the stream.
//!
//! # Identity
//!
//! No attribute says that a peer is who it claims to be. That a certificate was *presented*
//! ([`connection::PEER_CERTIFICATE_PRESENTED`]) does not say that anybody verified it: a listener that
//! accepts untrusted certificates presents them all the same. And of several alternative names the host
//! tells the first only ([`connection::FIRST_URI_SAN_OF_PEER`]), so that a certificate with two of them
//! cannot be told from one with one.
//!
//! # Examples
//!
//! ```no_run
//! use tollgate::attributes::{connection, xds};
//!
//! # fn decide() -> Result<(), tollgate::attributes::AttributeError> {
//! if let Some(name) = connection::REQUESTED_SERVER_NAME.read()? {
//!     tollgate::log::info!("for {name}");
//! }
//! let route = xds::ROUTE_NAME.read()?;
//! # Ok(())
//! # }
//! ```
//!
//! Source: Envoy, "Attributes", and `source/extensions/filters/common/expr/context.cc`.

mod snapshot;
mod table;
mod value;

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::marker::PhantomData;

use tollgate_abi::{Status, property};

use crate::host;
use crate::host_error::HostError;

pub use snapshot::{Keep, Snapshot, Source};
pub use table::{
    connection, destination, filter_state, filter_state_field, metadata, plugin, request, response,
    source, upstream, upstream_filter_state, xds,
};
pub use tollgate_abi::property::InvalidSegment;
pub use value::{Address, InternalAddress, Kind, Message, Metadata, Text, Timestamp, Value};

/// An attribute of type `T`: where the host keeps it.
pub struct Attribute<T> {
    path: Cow<'static, [u8]>,
    /// The path by which hosts before Envoy 1.33 know it.
    older: Option<Cow<'static, [u8]>>,
    value: PhantomData<fn() -> T>,
}

impl<T> Attribute<T> {
    const fn fixed(path: &'static str, older: Option<&'static str>) -> Self {
        let older = match older {
            Some(older) => Some(Cow::Borrowed(older.as_bytes())),
            None => None,
        };
        Self { path: Cow::Borrowed(path.as_bytes()), older, value: PhantomData }
    }

    /// An attribute by the segments of its path, for what a host knows beyond Envoy 1.40.
    ///
    /// # Errors
    ///
    /// [`InvalidSegment`] when a segment contains NUL: it would read as two.
    pub fn at<S: AsRef<[u8]>>(path: &[S]) -> Result<Self, InvalidSegment> {
        Ok(Self { path: Cow::Owned(property::join(path)?), older: None, value: PhantomData })
    }

    fn below<F>(&self, segments: &[&str]) -> Result<Attribute<F>, InvalidSegment> {
        let rest = property::join(segments)?;
        let join = |path: &[u8]| Cow::Owned([path, &rest].join(&0));
        let older = self.older.as_deref().map(join);
        Ok(Attribute { path: join(&self.path), older, value: PhantomData })
    }

    /// The path as people write it: its segments, parted by dots.
    pub fn name(&self) -> String {
        let dotted: Vec<u8> =
            self.path.iter().map(|&byte| if byte == 0 { b'.' } else { byte }).collect();
        dotted.escape_ascii().to_string()
    }
}

impl<T: Value> Attribute<T> {
    /// Reads the attribute; `None` when the host has none now.
    ///
    /// What hosts before Envoy 1.33 call otherwise is asked for by that name too, if it is not there by
    /// the new one.
    ///
    /// # Errors
    ///
    /// [`AttributeError`] when the value is of another type, or when the host refuses.
    pub fn read(&self) -> Result<Option<T>, AttributeError> {
        self.decode(self.fetch(&mut host::property))
    }

    /// What the host has under the path, or else under the older one.
    fn fetch(&self, host: &mut Fetch<'_>) -> Result<Option<Vec<u8>>, HostError> {
        let mut fetch = |path: &[u8]| match host(path) {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.status() == Some(Status::NotFound) => Ok(None),
            Err(error) => Err(error),
        };
        match (fetch(&self.path)?, &self.older) {
            (None, Some(older)) => fetch(older),
            (found, _) => Ok(found),
        }
    }

    fn decode(
        &self,
        fetched: Result<Option<Vec<u8>>, HostError>,
    ) -> Result<Option<T>, AttributeError> {
        match fetched {
            Ok(None) => Ok(None),
            Ok(Some(bytes)) => T::decode(bytes).map(Some).map_err(|found| {
                AttributeError::WrongType { attribute: self.name(), expected: T::KIND, found }
            }),
            Err(error) => Err(AttributeError::Refused { attribute: self.name(), error }),
        }
    }
}

/// How a property is had from the host.
type Fetch<'a> = dyn FnMut(&[u8]) -> Result<Vec<u8>, HostError> + 'a;

impl Attribute<Message> {
    /// A field of the message, by the names that fields have in its definition.
    ///
    /// # Errors
    ///
    /// [`InvalidSegment`] when a name contains NUL.
    pub fn field<F: Value>(&self, path: &[&str]) -> Result<Attribute<F>, InvalidSegment> {
        self.below(path)
    }
}

impl Attribute<Metadata> {
    /// A value in the metadata: what stands under `key` in the namespace, which is most often the name
    /// of a filter. Numbers are `f64`, as in JSON; `null` has no form, and the host refuses it.
    ///
    /// # Errors
    ///
    /// [`InvalidSegment`] when a name contains NUL.
    pub fn value<F: Value>(
        &self,
        namespace: &str,
        key: &str,
    ) -> Result<Attribute<F>, InvalidSegment> {
        self.below(&["filter_metadata", namespace, key])
    }
}

impl<T> Clone for Attribute<T> {
    fn clone(&self) -> Self {
        Self { path: self.path.clone(), older: self.older.clone(), value: PhantomData }
    }
}

impl<T> fmt::Debug for Attribute<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Attribute").field(&self.name()).finish()
    }
}

/// Two attributes are the same when they have the same path, whatever is expected there.
impl<T, U> PartialEq<Attribute<U>> for Attribute<T> {
    fn eq(&self, other: &Attribute<U>) -> bool {
        self.path == other.path
    }
}

impl<T> Eq for Attribute<T> {}

/// Why there is no value of an attribute, other than that it is absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributeError {
    /// The host has a value, of another type.
    WrongType {
        /// The attribute.
        attribute: String,
        /// What it should be.
        expected: Kind,
        /// What came. It is not part of the text: it may be a secret.
        found: Vec<u8>,
    },
    /// The host refused, for another reason than that there is none.
    Refused {
        /// The attribute.
        attribute: String,
        /// What the host said.
        error: HostError,
    },
    /// The snapshot was taken without this attribute, or was never taken.
    NotKept {
        /// The attribute.
        attribute: String,
    },
}

impl fmt::Display for AttributeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongType { attribute, expected, found } => {
                let size = found.len();
                write!(f, "{attribute} should be {expected}, and is something else of {size} bytes")
            }
            Self::Refused { attribute, error } => write!(f, "{attribute}: {error}"),
            Self::NotKept { attribute } => {
                write!(f, "{attribute} is not in the snapshot; name it where the snapshot is taken")
            }
        }
    }
}

impl Error for AttributeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Refused { error, .. } => Some(error),
            Self::WrongType { .. } | Self::NotKept { .. } => None,
        }
    }
}
