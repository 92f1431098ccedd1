//! What a probe's log says of properties whose values change from run to run: that there is one, and how
//! many bytes it has, is compared; the value is not.

/// Properties of clocks, and numbers that the system gives out. All have 8 bytes.
const NUMBERS: &[&str] = &[
    "request\\\\0time",
    "request\\\\0duration",
    "response\\\\0backend_latency",
    "upstream\\\\0cx_pool_ready_duration",
    "upstream\\\\0port",
    "source\\\\0port",
    "destination\\\\0port",
    "connection\\\\0id",
    "connection_id",
];

/// Properties with a port in them, whose number of digits changes too.
const ADDRESSES: &[&str] = &[
    "source\\\\0address",
    "destination\\\\0address",
    "upstream\\\\0address",
    "upstream\\\\0local_address",
];

/// What stands before a value, and after it.
const VALUE: (&str, &str) = (" -> 0 value_data=\\\"", "\\\" value_size=");

/// Hides the value of a property that varies.
pub(super) fn hidden(line: &str) -> String {
    let shown = || {
        let (before, rest) = line.split_once(VALUE.0)?;
        let (value, size) = rest.rsplit_once(VALUE.1)?;
        let path = before.rsplit(' ').next()?;
        if NUMBERS.contains(&path) {
            return Some(format!("{before} -> 0 a number of {size} bytes"));
        }
        let (host, _) = value.rsplit_once(':')?;
        ADDRESSES.contains(&path).then(|| format!("{before} -> 0 a port of {host}"))
    };
    shown().unwrap_or_else(|| line.to_owned())
}
