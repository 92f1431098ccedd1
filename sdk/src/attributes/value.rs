//! The types that attributes have, and how each is told from its bytes.
//!
//! A host gives bytes without their type. What is exactly as long as it should be is taken for it; the
//! rest is an error of its own, never a guess.

use std::fmt;
use std::net::SocketAddr;
use std::str::Utf8Error;
use std::time::{Duration, SystemTime};

use crate::headers::Headers;
use crate::protobuf::Fields;

/// A type that an attribute can have.
pub trait Value: Sized + sealed::Sealed {
    /// Which one it is.
    const KIND: Kind;

    /// Reads a value as the host gives it.
    ///
    /// # Errors
    ///
    /// The bytes, when they are no such value.
    fn decode(bytes: Vec<u8>) -> Result<Self, Vec<u8>>;
}

mod sealed {
    pub trait Sealed {}
}

/// A type that an attribute can have, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`Text`].
    Text,
    /// `i64`.
    Int,
    /// `u64`.
    Uint,
    /// `f64`.
    Double,
    /// `bool`.
    Bool,
    /// [`Timestamp`].
    Timestamp,
    /// [`Duration`].
    Duration,
    /// [`Headers`].
    Map,
    /// `Vec<Text>`.
    List,
    /// [`Address`].
    Address,
    /// [`Message`] or [`Metadata`].
    Message,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Int => "an integer of 8 bytes",
            Self::Uint => "an unsigned integer of 8 bytes",
            Self::Double => "a number with a fraction, of 8 bytes",
            Self::Bool => "one byte, 0 or 1",
            Self::Timestamp => "a time of 8 bytes",
            Self::Duration => "a duration of 8 bytes that is not negative",
            Self::Map => "a map",
            Self::List => "a list",
            Self::Address => "an address",
            Self::Message => "a message",
        })
    }
}

/// Bytes that are text most of the time. A client may have chosen them.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(Vec<u8>);

impl Text {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, owned.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// The text, if it is UTF-8.
    ///
    /// # Errors
    ///
    /// [`Utf8Error`] when it is not.
    pub fn to_str(&self) -> Result<&str, Utf8Error> {
        str::from_utf8(&self.0)
    }

    /// Whether there are no bytes. Where the host knows of no text it often gives none of it, rather
    /// than no attribute.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl From<Vec<u8>> for Text {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

/// What is not printable ASCII is escaped, so that a text stays on its line of a log.
impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// A point in time on the wall clock of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    unix_nanos: i64,
}

impl Timestamp {
    /// Nanoseconds since the Unix epoch; negative before it.
    pub const fn unix_nanos(self) -> i64 {
        self.unix_nanos
    }

    /// Time since the Unix epoch; `None` before it.
    pub fn since_epoch(self) -> Option<Duration> {
        u64::try_from(self.unix_nanos).ok().map(Duration::from_nanos)
    }

    /// How long after `earlier` this is; nothing if it is before it, as the clock may have been set.
    pub fn saturating_duration_since(self, earlier: Self) -> Duration {
        let nanos = i128::from(self.unix_nanos).saturating_sub(earlier.unix_nanos.into());
        Duration::from_nanos(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
    }

    /// The time as the standard library has it; `None` where that has no such time.
    pub fn to_system_time(self) -> Option<SystemTime> {
        let distance = Duration::from_nanos(self.unix_nanos.unsigned_abs());
        match self.unix_nanos {
            0.. => SystemTime::UNIX_EPOCH.checked_add(distance),
            _ => SystemTime::UNIX_EPOCH.checked_sub(distance),
        }
    }
}

/// Where a peer is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// At an IP address and port.
    Socket(SocketAddr),
    /// At a Unix domain socket: its path, or `@` and its abstract name.
    Pipe(Text),
    /// At a listener of the same proxy.
    Internal(InternalAddress),
}

impl Address {
    /// IP address and port, if it has such.
    pub fn socket(&self) -> Option<SocketAddr> {
        match self {
            Self::Socket(address) => Some(*address),
            Self::Pipe(_) | Self::Internal(_) => None,
        }
    }
}

/// A listener of the same proxy, by name, and the endpoint that was asked for there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InternalAddress(Text);

impl InternalAddress {
    /// The name, a slash, and the endpoint.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// A Protocol Buffers message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message(Vec<u8>);

impl Message {
    /// The fields. Single ones are had without the whole by
    /// [`Attribute::field`](super::Attribute::field).
    pub fn fields(&self) -> Fields<'_> {
        Fields::of(&self.0)
    }

    /// The message as it was sent.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// An `envoy.config.core.v3.Metadata`. Its values are had by
/// [`Attribute::value`](super::Attribute::value).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata(Message);

impl Metadata {
    /// The whole message.
    pub fn message(&self) -> &Message {
        &self.0
    }
}

/// Says of each type which one it is and how it is read.
macro_rules! values {
    ($( $type:ty = $kind:ident, $decode:expr; )*) => { $(
        impl sealed::Sealed for $type {}

        impl Value for $type {
            const KIND: Kind = Kind::$kind;

            fn decode(bytes: Vec<u8>) -> Result<Self, Vec<u8>> {
                let decode: fn(Vec<u8>) -> Result<Self, Vec<u8>> = $decode;
                decode(bytes)
            }
        }
    )* };
}

values! {
    Text = Text, |bytes| Ok(Text(bytes));
    i64 = Int, |bytes| Ok(i64::from_le_bytes(eight(bytes)?));
    u64 = Uint, |bytes| Ok(u64::from_le_bytes(eight(bytes)?));
    f64 = Double, |bytes| Ok(f64::from_le_bytes(eight(bytes)?));
    bool = Bool, boolean;
    Timestamp = Timestamp, |bytes| {
        Ok(Timestamp { unix_nanos: i64::from_le_bytes(eight(bytes)?) })
    };
    Duration = Duration, duration;
    Headers = Map, map;
    Vec<Text> = List, list;
    Address = Address, address;
    Message = Message, message;
    Metadata = Message, |bytes| message(bytes).map(Metadata);
}

fn eight(bytes: Vec<u8>) -> Result<[u8; 8], Vec<u8>> {
    <[u8; 8]>::try_from(bytes)
}

fn boolean(bytes: Vec<u8>) -> Result<bool, Vec<u8>> {
    match bytes.as_slice() {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => Err(bytes),
    }
}

fn duration(bytes: Vec<u8>) -> Result<Duration, Vec<u8>> {
    let eight = eight(bytes)?;
    let nanos = u64::try_from(i64::from_le_bytes(eight)).map_err(|_| eight.to_vec())?;
    Ok(Duration::from_nanos(nanos))
}

fn map(bytes: Vec<u8>) -> Result<Headers, Vec<u8>> {
    Headers::parse(bytes.clone()).map_err(|_| bytes)
}

/// A list comes as a map from each element to nothing.
fn list(bytes: Vec<u8>) -> Result<Vec<Text>, Vec<u8>> {
    let pairs = Headers::parse(bytes.clone()).map_err(|_| bytes.clone())?;
    let element = |(name, value): (&[u8], &[u8])| value.is_empty().then(|| Text(name.to_vec()));
    pairs.iter().map(element).collect::<Option<_>>().ok_or(bytes)
}

fn address(bytes: Vec<u8>) -> Result<Address, Vec<u8>> {
    if let Some(internal) = bytes.strip_prefix(b"envoy://") {
        return Ok(Address::Internal(InternalAddress(Text(internal.to_vec()))));
    }
    if matches!(bytes.as_slice(), [b'/' | b'@', ..]) {
        return Ok(Address::Pipe(Text(bytes)));
    }
    match str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok()) {
        Some(address) => Ok(Address::Socket(address)),
        None => Err(bytes),
    }
}

fn message(bytes: Vec<u8>) -> Result<Message, Vec<u8>> {
    let is_whole = Fields::of(&bytes).all(|field| field.is_ok());
    if is_whole { Ok(Message(bytes)) } else { Err(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use tollgate_abi::pairs::encode;

    /// Checks what bytes are as a type; `None` is something else.
    fn check<T: Value + PartialEq + fmt::Debug>(bytes: &[u8], expected: Option<T>) {
        let found = T::decode(bytes.to_vec());
        assert_eq!(found, expected.ok_or_else(|| bytes.to_vec()), "{}", bytes.escape_ascii());
    }

    #[test]
    fn numbers_have_eight_bytes_and_the_low_one_first() {
        check(&[1, 0, 0, 0, 0, 0, 0, 0x80], Some(i64::MIN + 1));
        check(&[1, 0, 0, 0, 0, 0, 0, 0x80], Some((1_u64 << 63) + 1));
        check(&1.5_f64.to_le_bytes(), Some(1.5));
        check::<i64>(b"", None);
        check::<u64>(b"1234567", None);
        check::<f64>(b"123456789", None);
    }

    #[test]
    fn a_boolean_is_one_byte_and_no_other_than_two() {
        check(&[0], Some(false));
        check(&[1], Some(true));
        check::<bool>(&[2], None);
        check::<bool>(&[], None);
        check::<bool>(&[1, 0], None);
    }

    #[test]
    fn times_do_not_leave_what_can_be_told() {
        check(&5_i64.to_le_bytes(), Some(Duration::from_nanos(5)));
        check::<Duration>(&(-1_i64).to_le_bytes(), None);
        let at = |unix_nanos| Timestamp { unix_nanos };
        check(&(-1_i64).to_le_bytes(), Some(at(-1)));
        assert_eq!(at(-1).since_epoch(), None);
        assert_eq!(at(7).since_epoch(), Some(Duration::from_nanos(7)));
        assert_eq!(
            at(7).to_system_time(),
            SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(7))
        );
        for extreme in [i64::MIN, i64::MAX] {
            let _time = at(extreme).to_system_time();
            let distance = at(i64::MAX).saturating_duration_since(at(extreme));
            assert_eq!(distance.is_zero(), extreme == i64::MAX);
        }
        assert_eq!(at(1).saturating_duration_since(at(2)), Duration::ZERO);
    }

    #[test]
    fn an_address_is_a_socket_a_pipe_or_a_listener() {
        check(b"127.0.0.1:80", Some(Address::Socket("127.0.0.1:80".parse().unwrap())));
        check(b"[::1]:80", Some(Address::Socket("[::1]:80".parse().unwrap())));
        check(b"/run/a.sock", Some(Address::Pipe("/run/a.sock".into())));
        check(b"@a", Some(Address::Pipe("@a".into())));
        check(b"envoy://inner/1", Some(Address::Internal(InternalAddress("inner/1".into()))));
        check::<Address>(b"", None);
        check::<Address>(b"127.0.0.1", None);
        check::<Address>(b"example.com:80", None);
        check::<Address>(b"\xff:80", None);
    }

    #[test]
    fn a_list_is_a_map_to_nothing() {
        let pairs = encode(&[("a", ""), ("\u{ff}", "")]).unwrap();
        check(&pairs, Some(vec![Text::from("a"), Text::from("\u{ff}")]));
        check::<Vec<Text>>(&encode(&[("a", "b")]).unwrap(), None);
        check::<Vec<Text>>(b"a", None);
        check(b"", Some(Vec::<Text>::new()));
    }

    #[test]
    fn a_message_is_looked_through_to_its_end() {
        check(b"\x0a\x01a", Some(Message(b"\x0a\x01a".to_vec())));
        check(b"", Some(Metadata::default()));
        check::<Message>(b"\x0a\x02a", None);
        check::<Metadata>(b"text", None);
    }

    #[test]
    fn text_is_bytes_and_stays_on_its_line() {
        let text = Text(b"a\n\xff".to_vec());
        assert_eq!((text.to_string().as_str(), text.to_str().is_err()), ("a\\n\\xff", true));
        assert_eq!(Text::from("alice"), "alice");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_value_or_come_back(bytes in vec(any::<u8>(), 0..64)) {
            fn total<T: Value>(bytes: &[u8]) -> bool {
                T::decode(bytes.to_vec()).err().is_none_or(|came_back| came_back == bytes)
            }
            prop_assert!(total::<Text>(&bytes) && total::<i64>(&bytes) && total::<u64>(&bytes));
            prop_assert!(total::<f64>(&bytes) && total::<bool>(&bytes));
            prop_assert!(total::<Timestamp>(&bytes) && total::<Duration>(&bytes));
            prop_assert!(total::<Headers>(&bytes) && total::<Vec<Text>>(&bytes));
            prop_assert!(total::<Address>(&bytes) && total::<Message>(&bytes));
            prop_assert!(total::<Metadata>(&bytes));
        }
    }
}
