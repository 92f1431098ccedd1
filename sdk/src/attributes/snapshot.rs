//! Attributes and headers as they were in one phase, for the phases after it.

use std::collections::BTreeMap;

use super::{Attribute, AttributeError, Fetch, Value};
use crate::headers::Headers;
use crate::host;
use crate::host_error::HostError;
use crate::live::{Message, MessageHeaders};

/// What a [`Snapshot`] is to keep: declared once, most often as a constant of the filter.
///
/// # Examples
///
/// ```
/// use tollgate::attributes::{Keep, connection, request, xds};
///
/// static KEPT: Keep<'_> = Keep {
///     headers: &["x-user"],
///     attributes: &[&request::PATH, &xds::ROUTE_NAME, &connection::FIRST_URI_SAN_OF_PEER],
/// };
/// ```
#[derive(Clone, Copy)]
pub struct Keep<'a> {
    /// Names of headers.
    pub headers: &'a [&'a str],
    /// Attributes of any types.
    pub attributes: &'a [&'a (dyn Kept + Sync)],
}

/// An attribute of whatever type.
pub trait Kept: private::Raw {}

impl<T: Value> Kept for Attribute<T> {}

mod private {
    use super::{Fetch, HostError};

    pub trait Raw {
        /// The path.
        fn path(&self) -> &[u8];
        /// The bytes, if there are any.
        fn fetch(&self, host: &mut Fetch<'_>) -> Result<Option<Vec<u8>>, HostError>;
    }

    impl<T: super::Value> Raw for super::Attribute<T> {
        fn path(&self) -> &[u8] {
            &self.path
        }

        fn fetch(&self, host: &mut Fetch<'_>) -> Result<Option<Vec<u8>>, HostError> {
            Self::fetch(self, host)
        }
    }
}

/// Where a snapshot is taken: headers, and a host that has attributes.
pub trait Source {
    /// All header lines.
    ///
    /// # Errors
    ///
    /// [`HostError`] when the host refuses.
    fn headers(&mut self) -> Result<&Headers, HostError>;

    /// A property by its path.
    ///
    /// # Errors
    ///
    /// [`HostError`] when the host refuses or has none.
    fn property(&mut self, path: &[u8]) -> Result<Vec<u8>, HostError>;
}

impl<M: Message> Source for MessageHeaders<M> {
    fn headers(&mut self) -> Result<&Headers, HostError> {
        self.read()
    }

    fn property(&mut self, path: &[u8]) -> Result<Vec<u8>, HostError> {
        host::property(path)
    }
}

/// Chosen headers and attributes as they were in one phase. It is a value: kept in the state of the
/// stream, it can be asked in every later phase, also where the host has forgotten.
///
/// One that was never taken keeps nothing, and says so of all it is asked for.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    headers: BTreeMap<String, Result<Vec<Vec<u8>>, HostError>>,
    attributes: BTreeMap<Vec<u8>, Result<Option<Vec<u8>>, HostError>>,
}

impl Snapshot {
    /// Takes what `keep` names. A host that refuses part of it has that part of the snapshot refuse, and
    /// no other. The header map is read once, and not at all when no header is kept.
    pub fn take(source: &mut impl Source, keep: &Keep<'_>) -> Self {
        let attributes = keep.attributes.iter().map(|attribute| {
            let fetched = attribute.fetch(&mut |path| source.property(path));
            (attribute.path().to_vec(), fetched)
        });
        let attributes = attributes.collect();
        let mut headers = BTreeMap::new();
        if !keep.headers.is_empty() {
            let read = source.headers();
            for name in keep.headers {
                let lines = match &read {
                    Ok(headers) => Ok(headers.all(name).map(<[u8]>::to_vec).collect()),
                    Err(error) => Err(*error),
                };
                headers.insert(name.to_ascii_lowercase(), lines);
            }
        }
        Self { headers, attributes }
    }

    /// The attribute as it was; `None` when the host had none.
    ///
    /// # Errors
    ///
    /// [`AttributeError`] when it was not kept, when its value is of another type, or when the host
    /// refused.
    pub fn get<T: Value>(&self, attribute: &Attribute<T>) -> Result<Option<T>, AttributeError> {
        match self.attributes.get(&*attribute.path) {
            Some(fetched) => attribute.decode(fetched.clone()),
            None => Err(AttributeError::NotKept { attribute: attribute.name() }),
        }
    }

    /// The lines of a header as they were, in their order; the name is looked up in any case.
    ///
    /// # Errors
    ///
    /// [`AttributeError`] when it was not kept, or when the host refused.
    pub fn header(&self, name: &str) -> Result<&[Vec<u8>], AttributeError> {
        let attribute = || format!("header {}", name.escape_default());
        match self.headers.get(&name.to_ascii_lowercase()) {
            Some(Ok(lines)) => Ok(lines),
            Some(Err(error)) => {
                Err(AttributeError::Refused { attribute: attribute(), error: *error })
            }
            None => Err(AttributeError::NotKept { attribute: attribute() }),
        }
    }
}
