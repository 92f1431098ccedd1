//! Headers that are written as the head of an HTTP/1 message.

use crate::scenario::HeaderLine;

/// Which side sends the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Request,
    Response,
}

/// Reads a head: its first line becomes pseudo-headers, names become lower-case.
pub(super) fn head(text: &[u8], side: Side) -> Result<Vec<HeaderLine>, String> {
    let mut lines = text.split(|&byte| byte == b'\n');
    let mut lines = lines.by_ref().map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let first = lines.next().unwrap_or_default();
    let mut headers = Vec::new();
    for (index, line) in lines.enumerate() {
        if line.is_empty() {
            break;
        }
        let number = index + 2;
        if line.first().is_some_and(u8::is_ascii_whitespace) {
            return Err(format!("line {number} of the head: a folded line; write it as one"));
        }
        let Some(colon) = line.iter().position(|&byte| byte == b':') else {
            let line = line.escape_ascii();
            return Err(format!("line {number} of the head: `{line}` has no colon"));
        };
        let (name, value) = line.split_at(colon);
        if name.is_empty() || name.iter().any(u8::is_ascii_whitespace) {
            let name = name.escape_ascii();
            return Err(format!("line {number} of the head: `{name}` is not a header name"));
        }
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        headers.push((name.to_ascii_lowercase(), value.to_vec()));
    }
    let pseudo = match side {
        Side::Request => request_line(first, &mut headers)?,
        Side::Response => vec![(b":status".to_vec(), status_line(first)?)],
    };
    Ok(pseudo.into_iter().chain(headers).collect())
}

fn request_line(line: &[u8], headers: &mut Vec<HeaderLine>) -> Result<Vec<HeaderLine>, String> {
    let parts: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    let [method, target, version] = parts.as_slice() else {
        let line = line.escape_ascii();
        return Err(format!("`{line}` is not a request line; write GET /path HTTP/1.1"));
    };
    if method.is_empty() || !version.starts_with(b"HTTP/") {
        let line = line.escape_ascii();
        return Err(format!("`{line}` is not a request line; write GET /path HTTP/1.1"));
    }
    let mut pseudo = vec![(b":method".to_vec(), method.to_vec())];
    let host = headers.iter().find(|(name, _)| name == b"host").map(|(_, value)| value.clone());
    if target.starts_with(b"/") {
        pseudo.push((b":path".to_vec(), target.to_vec()));
        pseudo.extend(host.map(|host| (b":authority".to_vec(), host)));
    } else {
        let (scheme, rest) = split_once(target, b"://").ok_or_else(|| {
            let target = target.escape_ascii();
            format!("`{target}` is neither a path nor a URI; write /path or https://host/path")
        })?;
        let end = rest.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let authority = authority.rsplit(|&byte| byte == b'@').next().unwrap_or_default();
        let path = path.split(|&byte| byte == b'#').next().unwrap_or_default();
        let path = if path.starts_with(b"/") { path.to_vec() } else { [b"/", path].concat() };
        // A port that the scheme has by default is not told.
        let scheme = scheme.to_ascii_lowercase();
        let default: &[u8] = if scheme == b"https" { b":443" } else { b":80" };
        let authority = authority.strip_suffix(default).unwrap_or(authority);
        pseudo.push((b":scheme".to_vec(), scheme));
        pseudo.push((b":path".to_vec(), path));
        pseudo.push((b":authority".to_vec(), authority.to_ascii_lowercase()));
    }
    headers.retain(|(name, _)| name != b"host");
    Ok(pseudo)
}

fn status_line(line: &[u8]) -> Result<Vec<u8>, String> {
    let mut parts = line.split(|&byte| byte == b' ');
    let version = parts.next().unwrap_or_default();
    let code = parts.next().unwrap_or_default();
    if version.starts_with(b"HTTP/") && code.len() == 3 && code.iter().all(u8::is_ascii_digit) {
        Ok(code.to_vec())
    } else {
        let line = line.escape_ascii();
        Err(format!("`{line}` is not a status line; write HTTP/1.1 200 OK"))
    }
}

fn split_once<'a>(text: &'a [u8], by: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = text.windows(by.len()).position(|window| window == by)?;
    Some((text.get(..at)?, text.get(at + by.len()..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(headers: &[HeaderLine]) -> String {
        let line = |(name, value): &HeaderLine| {
            format!("{}={}", name.escape_ascii(), value.escape_ascii())
        };
        headers.iter().map(line).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_head_becomes_headers() {
        let check = |side, text: &str, expected: &str| {
            assert_eq!(show(&head(text.as_bytes(), side).expect(text)), expected, "{text}");
        };
        check(
            Side::Request,
            "GET /a?b=c HTTP/1.1\nHost: h\nX-A: 1\nX-A:2\n",
            ":method=GET :path=/a?b=c :authority=h x-a=1 x-a=2",
        );
        check(Side::Request, "GET / HTTP/1.1", ":method=GET :path=/");
        check(
            Side::Request,
            "GET HTTPS://Ex.com:8080/a?b#c HTTP/1.1\r\nHost: other\r\n\r\nbody: no",
            ":method=GET :scheme=https :path=/a?b :authority=ex.com:8080",
        );
        check(
            Side::Request,
            "GET http://h:80?b HTTP/1.1",
            ":method=GET :scheme=http :path=/?b :authority=h",
        );
        check(Side::Response, "HTTP/1.1 403 Not Today\nA: b", ":status=403 a=b");
        check(Side::Response, "HTTP/1.1 200", ":status=200");
    }

    #[test]
    fn what_is_no_head_is_refused() {
        let check = |side, text: &str, part: &str| {
            let error = head(text.as_bytes(), side).expect_err(text);
            assert!(error.contains(part), "{error}");
        };
        check(Side::Request, "", "is not a request line");
        check(Side::Request, "GET /", "is not a request line");
        check(Side::Request, "GET a HTTP/1.1", "neither a path nor a URI");
        check(Side::Request, "GET / HTTP/1.1\nno colon", "line 2 of the head: `no colon`");
        check(Side::Request, "GET / HTTP/1.1\na: b\n c", "line 3 of the head: a folded line");
        check(Side::Request, "GET / HTTP/1.1\n: b", "is not a header name");
        check(Side::Response, "HTTP/1.1 OK", "is not a status line");
        check(Side::Response, "GET / HTTP/1.1", "is not a status line");
    }
}
