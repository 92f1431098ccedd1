//! Addresses of clients.

use std::error::Error;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU8;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::attributes::{AttributeError, source};
use crate::config::Object;
use crate::headers::Headers;

/// Which address stands for a client, and how much of it.
///
/// Proxies append the address that they were spoken to from to `x-forwarded-for`, so only entries from
/// its right are worth something, and only as many as proxies before this one are trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "Object<Written>")]
#[schemars(with = "Written")]
pub struct ClientAddress {
    trusted_hops: Option<NonZeroU8>,
    ipv4_prefix: u8,
    ipv6_prefix: u8,
}

/// Which address stands for a client, and how much of it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "ClientAddress")]
struct Written {
    /// Which entry of x-forwarded-for, from its right; 0: whom Envoy itself takes for the client.
    trusted_hops: u8,
    /// How many bits of an IPv4 address set clients apart.
    #[schemars(range(min = 1, max = 32))]
    ipv4_prefix: u8,
    /// How many bits of an IPv6 address set clients apart: one client mostly has a /64.
    #[schemars(range(min = 1, max = 128))]
    ipv6_prefix: u8,
}

impl Default for Written {
    fn default() -> Self {
        Self { trusted_hops: 0, ipv4_prefix: 32, ipv6_prefix: 64 }
    }
}

impl TryFrom<Object<Written>> for ClientAddress {
    type Error = InvalidClientAddress;

    fn try_from(Object(written): Object<Written>) -> Result<Self, InvalidClientAddress> {
        let Written { trusted_hops, ipv4_prefix, ipv6_prefix } = written;
        for (field, prefix, most) in
            [("ipv4_prefix", ipv4_prefix, 32), ("ipv6_prefix", ipv6_prefix, 128)]
        {
            if !(1..=most).contains(&prefix) {
                return Err(InvalidClientAddress { field, prefix, most });
            }
        }
        Ok(Self { trusted_hops: NonZeroU8::new(trusted_hops), ipv4_prefix, ipv6_prefix })
    }
}

impl ClientAddress {
    /// The network that stands for the client of the request at hand.
    ///
    /// # Errors
    ///
    /// [`NoAddress`] when the request does not come from an address, or nobody says from which.
    pub fn read(&self, headers: &Headers) -> Result<Network, NoAddress> {
        let address = match self.trusted_hops {
            None => source::ADDRESS
                .read()
                .map_err(NoAddress::Host)?
                .and_then(|address| address.socket())
                .ok_or(NoAddress::Missing)?
                .ip(),
            Some(hops) => forwarded(headers, hops)?,
        };
        let address = address.to_canonical();
        let prefix = match address {
            IpAddr::V4(_) => self.ipv4_prefix,
            IpAddr::V6(_) => self.ipv6_prefix,
        };
        Ok(Network { address: masked(address, prefix), prefix })
    }
}

/// The entry of `x-forwarded-for` at this place from the right.
fn forwarded(headers: &Headers, hops: NonZeroU8) -> Result<IpAddr, NoAddress> {
    let lines: Vec<&[u8]> = headers.all("x-forwarded-for").collect();
    let mut entries = lines.iter().rev().flat_map(|line| line.rsplit(|&byte| byte == b','));
    let before = usize::from(hops.get()).saturating_sub(1);
    let entry = entries.nth(before).ok_or(NoAddress::Missing)?;
    let text = str::from_utf8(entry).map_err(|_| NoAddress::NotAnAddress)?.trim();
    // Some proxies append the port.
    text.parse()
        .or_else(|_| text.parse().map(|socket: SocketAddr| socket.ip()))
        .map_err(|_| NoAddress::NotAnAddress)
}

/// Why a request has no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAddress {
    /// `x-forwarded-for` has fewer entries, or the connection is not one of IP.
    Missing,
    /// The entry of `x-forwarded-for` is no address.
    NotAnAddress,
    /// The proxy does not say.
    Host(AttributeError),
}

impl fmt::Display for NoAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("no address is known"),
            Self::NotAnAddress => f.write_str("x-forwarded-for has no address at this place"),
            Self::Host(error) => write!(f, "{error}"),
        }
    }
}

impl Error for NoAddress {}

/// A prefix that no address has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidClientAddress {
    field: &'static str,
    prefix: u8,
    most: u8,
}

impl fmt::Display for InvalidClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} is not between 1 and {}", self.field, self.prefix, self.most)
    }
}

impl Error for InvalidClientAddress {}

/// A range of addresses, such as `10.0.0.0/8` or `2001:db8::/32`; without a prefix, one address.
///
/// # Examples
///
/// ```
/// use tollgate::origin::Network;
///
/// let private = Network::parse("10.0.0.0/8")?;
/// assert!(private.contains("10.1.2.3".parse().unwrap()));
/// assert!(private.contains("::ffff:10.1.2.3".parse().unwrap()));
/// assert!(!private.contains("11.0.0.1".parse().unwrap()));
/// # Ok::<(), tollgate::origin::InvalidNetwork>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(inline, with = "String", extend("pattern" = "^[0-9a-fA-F:.]+(/[0-9]{1,3})?$"))]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// A range as it is written.
    ///
    /// # Errors
    ///
    /// [`InvalidNetwork`] when it is none, or has bits beyond its prefix.
    pub fn parse(text: &str) -> Result<Self, InvalidNetwork> {
        let invalid = || InvalidNetwork::NotARange { text: text.to_owned() };
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => most,
            Some(prefix) => prefix
                .parse()
                .ok()
                .filter(|&bits| bits <= most && !prefix.starts_with('+'))
                .ok_or_else(invalid)?,
        };
        let network = Self { address: masked(address, prefix), prefix };
        if network.address != address {
            return Err(InvalidNetwork::BitsBeyond { text: text.to_owned(), network });
        }
        Ok(network)
    }

    /// Whether an address is one of these; an IPv4 address is the same in its IPv6 form.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && masked(address, self.prefix) == self.address
    }

    /// The first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The number of bits that all addresses share.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl TryFrom<String> for Network {
    type Error = InvalidNetwork;

    fn try_from(text: String) -> Result<Self, InvalidNetwork> {
        Self::parse(&text)
    }
}

/// A text that is no [`Network`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidNetwork {
    /// It is no address, or its prefix is none.
    NotARange {
        /// What is written.
        text: String,
    },
    /// It has bits beyond its prefix: nobody knows what is meant.
    BitsBeyond {
        /// What is written.
        text: String,
        /// The range that has this address in it.
        network: Network,
    },
}

impl fmt::Display for InvalidNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotARange { text } => {
                write!(f, "{text:?} is not a range of addresses, such as 10.0.0.0/8")
            }
            Self::BitsBeyond { text, network } => {
                write!(f, "{text:?} has bits beyond its prefix; write {network}")
            }
        }
    }
}

impl Error for InvalidNetwork {}

/// The first bits of an address, and zeros.
fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(prefix)).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(prefix)).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(hops: u8, lines: &[&str], expected: Result<&str, NoAddress>) {
        let json = format!(r#"{{ "trusted_hops": {hops}, "ipv4_prefix": 24 }}"#);
        let client: ClientAddress = crate::config::parse(json.as_bytes()).unwrap();
        let headers: Headers = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
        let found = client.read(&headers).map(|network| network.to_string());
        assert_eq!(found, expected.map(str::to_owned), "{hops} of {lines:?}");
    }

    #[test]
    fn entries_count_from_the_right_over_all_lines() {
        check(1, &["1.1.1.1, 2.2.2.2"], Ok("2.2.2.0/24"));
        check(2, &["1.1.1.1, 2.2.2.2"], Ok("1.1.1.0/24"));
        check(2, &["1.1.1.1,9.9.9.9", "2.2.2.2"], Ok("9.9.9.0/24"));
        check(3, &["1.1.1.1, 2.2.2.2"], Err(NoAddress::Missing));
        check(1, &[], Err(NoAddress::Missing));
    }

    #[test]
    fn an_entry_is_an_address_perhaps_with_a_port() {
        check(1, &["1.2.3.4:80"], Ok("1.2.3.0/24"));
        check(1, &["[2001:db8:1:2:3::4]:80"], Ok("2001:db8:1:2::/64"));
        check(1, &["2001:db8:1:2:3::4"], Ok("2001:db8:1:2::/64"));
        check(1, &["::ffff:1.2.3.4"], Ok("1.2.3.0/24"));
        for other in ["", "unknown", "1.2.3", "1.2.3.4 x", "\u{ff}"] {
            check(1, &[other], Err(NoAddress::NotAnAddress));
        }
    }

    #[test]
    fn a_range_is_written_with_its_first_address() {
        let parse = |text| Network::parse(text).map_err(|invalid| invalid.to_string());
        for text in ["0.0.0.0/0", "10.0.0.0/8", "1.2.3.4/32", "::/0", "2001:db8::/33"] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        assert_eq!(parse("1.2.3.4").unwrap().to_string(), "1.2.3.4/32");
        assert_eq!(
            parse("10.0.0.1/8").unwrap_err(),
            "\"10.0.0.1/8\" has bits beyond its prefix; write 10.0.0.0/8"
        );
        for text in ["", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "10.0.0/8", "::/129", "a/8"] {
            let expected = format!("{text:?} is not a range of addresses, such as 10.0.0.0/8");
            assert_eq!(parse(text).unwrap_err(), expected);
        }
    }

    #[test]
    fn the_range_of_all_has_only_its_own_family() {
        let all = Network::parse("0.0.0.0/0").unwrap();
        assert!(all.contains("255.1.1.1".parse().unwrap()));
        assert!(!all.contains("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn a_prefix_out_of_bounds_is_named() {
        let error = |json: &str| {
            crate::config::parse::<ClientAddress>(json.as_bytes()).unwrap_err().to_string()
        };
        assert_eq!(error(r#"{ "ipv4_prefix": 33 }"#), "ipv4_prefix: 33 is not between 1 and 32");
        assert_eq!(error(r#"{ "ipv6_prefix": 0 }"#), "ipv6_prefix: 0 is not between 1 and 128");
    }
}
