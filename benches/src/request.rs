//! The request that every variant gets.

/// What a browser or a service sends with a request, more or less.
const LINES: [(&str, &str); 12] = [
    ("host", "shop.example.com"),
    ("x-user", "alice"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("accept", "application/json, text/plain, */*"),
    ("accept-language", "en-GB,en;q=0.8,de;q=0.5"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ("cookie", "session=0123456789abcdef0123456789abcdef; theme=dark; consent=yes"),
    ("referer", "https://shop.example.com/orders?page=2"),
    ("origin", "https://shop.example.com"),
    ("cache-control", "no-cache"),
    ("authorization", "Bearer abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz"),
];

/// So many header lines, at least two; `host` is the first.
pub(crate) fn lines(count: usize) -> Vec<(String, String)> {
    let more = (LINES.len()..).map(|n| (format!("x-more-{n}"), "0123456789abcdef".to_owned()));
    let usual = LINES.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
    usual.chain(more).take(count.max(2)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_lines_as_were_asked_for() {
        for (count, expected) in [(0, 2), (8, 8), (30, 30)] {
            assert_eq!(lines(count).len(), expected);
        }
    }
}
