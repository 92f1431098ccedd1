//! What requests may not say: the marks that the filter itself writes, and what asks for a variant.
//!
//! A client that could send them would choose its route. So they are taken off whatever the rules decide,
//! also in shadow and when all is off; in the spelling with `_` too, which some upstreams take for `-`.

use tollgate::cookie::CookieName;
use tollgate::{EditError, HeaderName, Headers, RequestHeaders};

use crate::condition::Source;
use crate::config::Policy;

/// What is taken off requests.
#[derive(Debug)]
pub(crate) struct Scrub {
    /// Of all.
    headers: Vec<HeaderName>,
    cookies: Vec<CookieName>,
    /// Of those by somebody who is not trusted.
    untrusted_headers: Vec<HeaderName>,
    untrusted_cookies: Vec<CookieName>,
}

impl Scrub {
    /// What a policy writes and reads.
    pub(crate) fn of(policy: &Policy) -> Self {
        let marks = policy.rules.iter().filter_map(|rule| rule.steer.header());
        let headers: Vec<HeaderName> = marks.chain(&policy.explain).cloned().collect();
        let mut untrusted_headers = Vec::new();
        let mut untrusted_cookies = Vec::new();
        for rule in &policy.rules {
            match &rule.override_by {
                Some(Source::Header(name)) if !headers.contains(name) => {
                    untrusted_headers.push(name.clone());
                }
                Some(Source::Cookie(name)) => untrusted_cookies.push(name.clone()),
                Some(Source::Header(_) | Source::Query(_) | Source::Peer | Source::Address(_))
                | None => {}
            }
        }
        let cookies = policy.mint.iter().map(|mint| mint.cookie.clone()).collect();
        Self { headers, cookies, untrusted_headers, untrusted_cookies }
    }

    /// Takes off what the request may not say, and writes the marks; whether something was taken off,
    /// and whether any line was changed at all.
    pub(crate) fn apply(
        &self,
        request: &mut RequestHeaders,
        headers: &Headers,
        marks: &[(&HeaderName, String)],
        is_trusted: impl Fn() -> bool,
    ) -> Result<(bool, bool), EditError> {
        let mut scrubbed = false;
        let mut changed = false;
        let is_one_of =
            |names: &[HeaderName], name: &[u8]| names.iter().any(|own| alike(own, name));
        let mut removed: Vec<&[u8]> = Vec::new();
        for (name, _) in headers {
            let is_forbidden = is_one_of(&self.headers, name)
                || (is_one_of(&self.untrusted_headers, name) && !is_trusted());
            if !is_forbidden || removed.contains(&name) {
                continue;
            }
            removed.push(name);
            scrubbed = true;
            let is_written = marks.iter().any(|(mark, _)| mark.as_str().as_bytes() == name);
            if let (false, Ok(name)) = (is_written, str::from_utf8(name)) {
                request.remove(name)?;
                changed = true;
            }
        }
        let takes = |name: &[u8]| {
            let is = |own: &CookieName| own.as_str().as_bytes() == name;
            self.cookies.iter().any(is) || (self.untrusted_cookies.iter().any(is) && !is_trusted())
        };
        if let Some(lines) = without_cookies(headers, takes) {
            scrubbed = true;
            changed = true;
            request.remove("cookie")?;
            for line in lines.iter().filter(|line| !line.is_empty()) {
                request.append("cookie", line)?;
            }
        }
        for (name, value) in marks {
            if headers.exactly_one(name.as_str()) != Ok(value.as_bytes()) {
                request.set(name.as_str(), value)?;
                changed = true;
            }
        }
        Ok((scrubbed, changed))
    }
}

/// Whether a line has this name, or one that an upstream could take for it.
fn alike(own: &HeaderName, name: &[u8]) -> bool {
    let dashed = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    own.as_str().len() == name.len()
        && own.as_str().bytes().map(|byte| dashed(&byte)).eq(name.iter().map(dashed))
}

/// The lines of cookies without those of some names; `None` when there is none of these.
fn without_cookies(headers: &Headers, takes: impl Fn(&[u8]) -> bool) -> Option<Vec<Vec<u8>>> {
    let is_taken = |cookie: &&[u8]| {
        let name = cookie.split(|&byte| byte == b'=').next().unwrap_or_default();
        takes(name.trim_ascii())
    };
    let cookies = |line: &'_ [u8]| line.split(|&byte| byte == b';').any(|cookie| is_taken(&cookie));
    if !headers.all("cookie").any(cookies) {
        return None;
    }
    let kept = |line: &[u8]| {
        let cookies = line.split(|&byte| byte == b';').filter(|cookie| !is_taken(cookie));
        cookies.map(<[u8]>::trim_ascii).collect::<Vec<_>>().join(&b"; "[..])
    };
    Some(headers.all("cookie").map(kept).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_taken_off_by_their_exact_names() {
        let check = |lines: &[&str], expected: Option<&[&str]>| {
            let headers: Headers = lines.iter().map(|line| ("cookie", *line)).collect();
            let found = without_cookies(&headers, |name| name == b"id");
            let expected = expected
                .map(|lines| lines.iter().map(|line| line.as_bytes().to_vec()).collect::<Vec<_>>());
            assert_eq!(found, expected, "{lines:?}");
        };
        check(&["a=1; id=2; b=3"], Some(&["a=1; b=3"]));
        check(&["id=1", "x; id = 2;id=3"], Some(&["", "x"]));
        check(&["id"], Some(&[""]));
        check(&["xid=1; ID=2; a=id=3"], None);
        check(&[], None);
    }

    #[test]
    fn a_name_that_an_upstream_could_take_for_another_is_alike() {
        let own = HeaderName::new("x-canary").unwrap();
        assert!(alike(&own, b"X-Canary") && alike(&own, b"x_canary"));
        assert!(!alike(&own, b"x-canary-") && !alike(&own, b"x.canary"));
    }
}
