//! Rules against requests that were made to slip by them. Each case names where it is known from.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// A request of these lines.
fn lines(lines: &[(&str, &str)]) -> Headers {
    lines.iter().copied().collect()
}

fn rule(json: &str) -> Match {
    crate::config::parse(json.as_bytes()).unwrap_or_else(|error| panic!("{json}: {error}"))
}

/// `yes`, `no`, or why it is ambiguous.
fn verdict(rule: &Match, headers: &Headers) -> String {
    match rule.test(&Request::new(headers, &NoNames, Ambiguous::Deny)) {
        Ok(true) => "yes".to_owned(),
        Ok(false) => "no".to_owned(),
        Err(why) => why.to_string(),
    }
}

fn check_path(patterns: &str, path: &str, expected: &str) {
    let rule = rule(&format!(r#"{{"paths":[{patterns}]}}"#));
    assert_eq!(verdict(&rule, &lines(&[(":path", path)])), expected, "{patterns} on {path}");
}

#[test]
fn a_path_is_compared_by_segments() {
    for (pattern, path, expected) in [
        (r#"{"exact":"/admin"}"#, "/admin", "yes"),
        (r#"{"exact":"/admin"}"#, "/admin/users", "no"),
        (r#"{"exact":"/admin"}"#, "/Admin", "no"),
        (r#"{"exact":"/"}"#, "/", "yes"),
        (r#"{"exact":"/"}"#, "/a", "no"),
        (r#"{"prefix":"/admin"}"#, "/admin", "yes"),
        (r#"{"prefix":"/admin"}"#, "/admin/users", "yes"),
        // Envoy's own `prefix` takes this one; `path_separated_prefix` does not.
        (r#"{"prefix":"/admin"}"#, "/administrator", "no"),
        (r#"{"prefix":"/"}"#, "/", "yes"),
        (r#"{"prefix":"/"}"#, "/any/thing", "yes"),
        (r#"{"suffix":"/a/orders"}"#, "/a/orders", "yes"),
        (r#"{"suffix":"/a/orders"}"#, "/users/7/a/orders/?x", "yes"),
        (r#"{"suffix":"/a/orders"}"#, "/orders", "no"),
        (r#"{"suffix":"/a/orders"}"#, "/xa/orders", "no"),
        (r#"{"suffix":"/a/orders"}"#, "/a/orders/7", "no"),
        (r#"{"suffix":"/"}"#, "/a", "yes"),
        (r#"{"template":"/users/{id}/orders"}"#, "/users/7/orders", "yes"),
        (r#"{"template":"/users/{id}/orders"}"#, "/users/7/8/orders", "no"),
        (r#"{"template":"/users/{id}/orders"}"#, "/users/7", "no"),
        (r#"{"template":"/users/{id}"}"#, "/users/", "no"),
        (r#"{"exact":"/a"},{"exact":"/b"}"#, "/b", "yes"),
        (r#"{"exact":"/ü b"}"#, "/%C3%BC%20b", "yes"),
    ] {
        check_path(pattern, path, expected);
    }
}

#[test]
fn a_path_that_servers_read_alike_is_found_however_it_is_written() {
    for path in [
        "/admin",
        "/admin/",
        "/admin?x",
        "/admin?/../x",
        "/admin/?",
        "/%61dmin",
        "/%61%64%6d%69%6e",
        // Upper and lower case digits of an encoding are equal (RFC 3986, 6.2.2.1).
        "/%61%64%6D%69%6e",
    ] {
        check_path(r#"{"exact":"/admin"}"#, path, "yes");
    }
}

#[test]
fn a_path_that_servers_read_differently_is_ambiguous() {
    let dots = "the path has a dot segment";
    let encoded = "the path has an encoded slash, dot, ? or #";
    let slashes = "the path has an empty segment";
    for (path, expected) in [
        // CVE-2019-9901: Envoy did not normalise dot segments.
        ("/public/../admin", dots),
        ("/./admin", dots),
        ("/admin/..", dots),
        // CVE-2021-29492: encoded slashes and backslashes.
        ("/public%2Fadmin", encoded),
        ("/public%2f..%2fadmin", encoded),
        ("/public%5C..%5cadmin", "the path has a backslash"),
        ("/public\\..\\admin", "the path has a backslash"),
        ("/%2e%2E/admin", encoded),
        // ISTIO-SECURITY-2021-005, CVE-2026-26205: several slashes.
        ("//admin", slashes),
        ("//", slashes),
        ("/a//b", slashes),
        ("/admin//", slashes),
        // istio#27409: path parameters, which Java servers drop.
        ("/admin;x", "the path has a semicolon"),
        ("/public/..;/admin", "the path has a semicolon"),
        ("/admin%3Bx", "the path has a semicolon"),
        // CVE-2021-32779, CVE-2021-39156: fragments.
        ("/admin#x", "the path has a fragment"),
        ("/admin%23x", encoded),
        ("/admin%3fx", encoded),
        // Decoded twice, as proxies behind proxies do.
        ("/%252e%252e/admin", "the path is encoded twice"),
        ("/%2561dmin", "the path is encoded twice"),
        ("/%25%36%31dmin", "the path is encoded twice"),
        ("/%256%31dmin", "the path is encoded twice"),
        ("/admin%", "the path has a percent sign that encodes nothing"),
        ("/admin%4", "the path has a percent sign that encodes nothing"),
        ("/%zzadmin", "the path has a percent sign that encodes nothing"),
        ("/%u0061dmin", "the path has a percent sign that encodes nothing"),
        // CVE-2019-9900: NUL, and its like.
        ("/admin%00", "the path has a control character or a space"),
        ("/admin\0", "the path has a control character or a space"),
        ("/admin%0a", "the path has a control character or a space"),
        ("/admin x", "the path has a control character or a space"),
        ("/admin\t", "the path has a control character or a space"),
        // CVE-2000-0884: a slash or a letter in more bytes than it needs.
        ("/public%c0%afadmin", "the path has a character that is not UTF-8"),
        ("/public%e0%80%afadmin", "the path has a character that is not UTF-8"),
        ("/public%f0%80%80%afadmin", "the path has a character that is not UTF-8"),
        // Absolute form, `OPTIONS *`, CONNECT.
        ("http://host/admin", "the path does not begin with a slash"),
        ("*", "the path does not begin with a slash"),
        ("", "the path does not begin with a slash"),
        ("admin", "the path does not begin with a slash"),
    ] {
        check_path(r#"{"prefix":"/admin"}"#, path, expected);
        check_path(r#"{"exact":"/other"}"#, path, expected);
    }
    let no_path = lines(&[(":method", "CONNECT")]);
    let rule = rule(r#"{"paths":[{"prefix":"/admin"}]}"#);
    assert_eq!(verdict(&rule, &no_path), "the path does not begin with a slash");
    let twice = lines(&[(":path", "/"), (":path", "/admin")]);
    assert_eq!(verdict(&rule, &twice), "the path does not begin with a slash");
}

#[test]
fn a_percent_sign_may_stand_in_a_path() {
    check_path(r#"{"template":"/discount/{rate}"}"#, "/discount/100%25", "yes");
    check_path(r#"{"template":"/discount/{rate}"}"#, "/discount/%25zz", "yes");
}

#[test]
fn taken_literally_an_ambiguous_path_is_what_it_says() {
    let rule = rule(r#"{"paths":[{"template":"/a/{x}/b"}]}"#);
    let check = |path, expected| {
        let headers = lines(&[(":path", path)]);
        let request = Request::new(&headers, &NoNames, Ambiguous::Literal);
        assert_eq!(rule.test(&request), Ok(expected), "{path}");
    };
    check("/a/c%2fd/b", true);
    check("/a/../b", true);
    check("/a/c;x/b", true);
    check("/a//b", false);
    check("/%61;/c/b", false);
    check("*", false);
}

#[test]
fn a_host_is_compared_without_port_in_any_case() {
    let check = |patterns: &str, host: &str, expected: &str| {
        let rule = rule(&format!(r#"{{"hosts":[{patterns}]}}"#));
        assert_eq!(
            verdict(&rule, &lines(&[(":authority", host)])),
            expected,
            "{patterns} {host:?}"
        );
    };
    let neither = "the host is neither a name nor an address";
    let port = "the host has something else than a port after it";
    for (patterns, host, expected) in [
        (r#""api.example.com""#, "api.example.com", "yes"),
        // CVE-2021-39155: case.
        (r#""API.example.com""#, "api.EXAMPLE.com", "yes"),
        // A port, and the dot of a full name, reach the same server.
        (r#""api.example.com""#, "api.example.com:8443", "yes"),
        (r#""api.example.com""#, "api.example.com.", "yes"),
        (r#""api.example.com""#, "api.example.com.:80", "yes"),
        (r#""api.example.com""#, "api.example.com.evil.org", "no"),
        (r#""api.example.com""#, "xapi.example.com", "no"),
        (r#""*.example.com""#, "a.example.com", "yes"),
        (r#""*.example.com""#, "a.b.EXAMPLE.com:80", "yes"),
        (r#""*.example.com""#, "example.com", "no"),
        (r#""*.example.com""#, ".example.com", neither),
        (r#""*.example.com""#, "badexample.com", "no"),
        (r#""[::1]""#, "[::1]:8080", "yes"),
        (r#""[::1]""#, "[::2]", "no"),
        (r#""10.0.0.1""#, "10.0.0.1:80", "yes"),
        (r#""a.b""#, "", "there is no host"),
        // CVE-2019-18802: blanks at the end.
        (r#""a.b""#, "a.b ", neither),
        (r#""a.b""#, "user@a.b", neither),
        (r#""a.b""#, "a.b:80@c.d", port),
        (r#""a.b""#, "a.b:", port),
        (r#""a.b""#, "a.b:80:80", port),
        (r#""a.b""#, "a..b", neither),
        (r#""a.b""#, "a.b..", neither),
        (r#""a.b""#, "a.b,c.d", neither),
        (r#""a.b""#, "a%2eb", neither),
        (r#""[::1]""#, "[::1", port),
        (r#""[::1]""#, "[]", neither),
        (r#""[::1]""#, "[::1]x", port),
    ] {
        check(patterns, host, expected);
    }
    let rule = rule(r#"{"hosts":["a.b"]}"#);
    assert_eq!(verdict(&rule, &lines(&[(":path", "/")])), "there is no host");
    let twice = lines(&[(":authority", "a.b"), (":authority", "c.d")]);
    assert_eq!(verdict(&rule, &twice), "there are several hosts");
}

#[test]
fn the_lines_of_a_header_are_looked_at_one_by_one() {
    let check = |json: &str, values: &[&str], expected: &str| {
        let rule = rule(&format!(r#"{{"headers":[{{"name":"X-Tier",{json}}}]}}"#));
        let headers: Headers = values.iter().map(|value| ("x-tier", value)).collect();
        assert_eq!(verdict(&rule, &headers), expected, "{json} on {values:?}");
    };
    let differ = "the lines of header x-tier differ";
    for (json, values, expected) in [
        (r#""exact":"gold""#, &["gold"][..], "yes"),
        (r#""exact":"gold""#, &["Gold"], "no"),
        (r#""exact":"gold""#, &[], "no"),
        (r#""exact":"""#, &[""], "yes"),
        (r#""prefix":"go""#, &["gold"], "yes"),
        (r#""suffix":"ld""#, &["gold"], "yes"),
        (r#""suffix":"ld""#, &["ld2"], "no"),
        (r#""present":true"#, &[""], "yes"),
        (r#""present":false"#, &[""], "no"),
        (r#""present":false"#, &[], "yes"),
        // CVE-2026-26308, CVE-2020-25017: the first line, or all lines joined, decided.
        (r#""exact":"gold""#, &["gold", "gold"], "yes"),
        (r#""exact":"gold""#, &["gold", "lead"], differ),
        (r#""exact":"gold""#, &["lead", "gold"], differ),
        (r#""exact":"gold""#, &["lead", "tin"], "no"),
        (r#""exact":"gold","lines":"any""#, &["lead", "gold"], "yes"),
        (r#""exact":"gold","lines":"all""#, &["lead", "gold"], "no"),
        (r#""exact":"gold","lines":"all""#, &[], "no"),
        // A line is not split at commas: it is one value, and another.
        (r#""exact":"gold""#, &["lead,gold"], "no"),
    ] {
        check(json, values, expected);
    }
}

#[test]
fn what_a_rule_excludes_elsewhere_is_not_ambiguous_to_it() {
    let rule = rule(r#"{"methods":["POST"],"paths":[{"prefix":"/admin"}]}"#);
    let request = |method, path| lines(&[(":method", method), (":path", path)]);
    assert_eq!(verdict(&rule, &request("POST", "/admin/x")), "yes");
    assert_eq!(verdict(&rule, &request("GET", "/x/../admin")), "no");
    assert_eq!(verdict(&rule, &request("POST", "/x/../admin")), "the path has a dot segment");
    // Frameworks that put methods into upper case would take it for a POST.
    assert_eq!(verdict(&rule, &request("post", "/admin")), "the method is not one in upper case");
    assert_eq!(verdict(&rule, &request("post", "/public")), "no");
}

#[test]
fn values_that_are_not_text_are_compared_as_bytes() {
    let rule = rule(r#"{"headers":[{"name":"x","prefix":"a"}],"paths":[{"prefix":"/p"}]}"#);
    let headers: Headers = [(":path", &b"/p/\xff\x80"[..]), ("x", b"a\xff")].into_iter().collect();
    assert_eq!(verdict(&rule, &headers), "the path has a character that is not UTF-8");
    let headers: Headers = [(":path", &b"/p/\x80"[..]), ("x", b"a\xff")].into_iter().collect();
    assert_eq!(verdict(&rule, &headers), "yes");
}

struct Named(Result<Option<&'static [u8]>, HostError>);

impl Names for Named {
    fn route(&self) -> Result<Option<&[u8]>, HostError> {
        self.0
    }

    fn virtual_host(&self) -> Result<Option<&[u8]>, HostError> {
        panic!("no rule has asked for it")
    }

    fn peer(&self) -> Result<Option<&SpiffeId>, AttributeError> {
        panic!("no rule has asked for it")
    }
}

struct By(Result<Option<SpiffeId>, AttributeError>);

impl Names for By {
    fn route(&self) -> Result<Option<&[u8]>, HostError> {
        panic!("no rule has asked for it")
    }

    fn virtual_host(&self) -> Result<Option<&[u8]>, HostError> {
        panic!("no rule has asked for it")
    }

    fn peer(&self) -> Result<Option<&SpiffeId>, AttributeError> {
        self.0.as_ref().map(Option::as_ref).map_err(Clone::clone)
    }
}

#[test]
fn a_peer_is_who_the_proxy_says_it_is() {
    let rule = rule(r#"{"peers":["spiffe://a/ns/*/sa/web","spiffe://a/batch"]}"#);
    let test = |by: &By, ambiguous| rule.test(&Request::new(&lines(&[]), by, ambiguous));
    let id = |text| By(Ok(Some(SpiffeId::parse(text).unwrap())));
    assert_eq!(test(&id("spiffe://a/ns/x/sa/web"), Ambiguous::Deny), Ok(true));
    assert_eq!(test(&id("spiffe://a/batch"), Ambiguous::Deny), Ok(true));
    assert_eq!(test(&id("spiffe://b/batch"), Ambiguous::Deny), Ok(false));
    assert_eq!(test(&By(Ok(None)), Ambiguous::Deny), Ok(false));
    let error = AttributeError::NotKept { attribute: "connection.uri_san".to_owned() };
    let unsaid = By(Err(error.clone()));
    assert_eq!(test(&unsaid, Ambiguous::Deny), Err(Ambiguity::Unidentified(error)));
    assert_eq!(test(&unsaid, Ambiguous::Literal), Ok(false));
}

#[test]
fn names_are_asked_for_when_nothing_else_excludes_the_request() {
    let rule = rule(r#"{"routes":["orders","users"],"methods":["GET"]}"#);
    let test = |method, names: &dyn Names, ambiguous| {
        rule.test(&Request::new(&lines(&[(":method", method)]), names, ambiguous))
    };
    let refused = HostError::Refused {
        function: tollgate_abi::Function::GetProperty,
        status: tollgate_abi::Status::InternalFailure,
    };
    assert_eq!(test("GET", &Named(Ok(Some(b"users"))), Ambiguous::Deny), Ok(true));
    assert_eq!(test("GET", &Named(Ok(Some(b"user"))), Ambiguous::Deny), Ok(false));
    assert_eq!(test("GET", &Named(Ok(None)), Ambiguous::Deny), Ok(false));
    let unnamed = Named(Err(refused));
    assert_eq!(test("POST", &unnamed, Ambiguous::Deny), Ok(false));
    assert_eq!(test("GET", &unnamed, Ambiguous::Deny), Err(Ambiguity::Unnamed(refused)));
    assert_eq!(test("GET", &unnamed, Ambiguous::Literal), Ok(false));
}

#[test]
fn the_first_rule_that_fits_decides() {
    let rules: Rules<u8> = crate::config::parse(
        br#"{ "rules": [
            { "match": { "paths": [{ "exact": "/a" }] }, "then": 1 },
            { "match": { "paths": [{ "prefix": "/" }] }, "then": 2 },
            { "match": { "methods": ["GET"] }, "then": 3 }
        ], "other": 4 }"#,
    )
    .unwrap();
    let choose = |path| {
        let headers = lines(&[(":path", path), (":method", "GET")]);
        rules.choose(&Request::new(&headers, &NoNames, Ambiguous::Deny)).copied()
    };
    assert_eq!(choose("/a"), Ok(1));
    assert_eq!(choose("/b"), Ok(2));
    assert_eq!(choose("/a;"), Err(Ambiguity::Path(AmbiguousPath::Parameters)));
}

#[test]
fn a_rule_that_could_fit_nothing_or_anything_is_refused() {
    for (json, expected) in [
        ("{}", "an empty object fits every request; leave it out"),
        ("[]", "configuration: a list is not an object"),
        (
            r#"{"path":[]}"#,
            "path: unknown field, expected one of `routes`, `virtual_hosts`, `hosts`, `paths`, `methods`, `headers`, `peers`",
        ),
        (
            r#"{"paths":[]}"#,
            "paths: an empty list; write at least one item, or leave the field out",
        ),
        (r#"{"paths":null}"#, "paths: null is not a list"),
        (
            r#"{"paths":["/a"]}"#,
            "paths[0]: `/a` is not one of `exact`, `prefix`, `suffix`, `template`",
        ),
        (r#"{"paths":[{"prefix":"/a?x"}]}"#, r#"paths[0]: "/a?x" has a query; leave it out"#),
        (
            r#"{"paths":[{"exact":"/a%20b"}]}"#,
            r#"paths[0]: "/a%20b" has a %; write the decoded character"#,
        ),
        (
            r#"{"paths":[{"exact":"/a/"}]}"#,
            r#"paths[0]: "/a/" ends with a slash, which is not compared; leave it out"#,
        ),
        (
            r#"{"paths":[{"exact":"a"}]}"#,
            r#"paths[0]: "a" matches no request: the path does not begin with a slash"#,
        ),
        (
            r#"{"paths":[{"exact":"/a/../b"}]}"#,
            r#"paths[0]: "/a/../b" matches no request: the path has a dot segment"#,
        ),
        (r#"{"paths":[{"prefix":"/{id}"}]}"#, r#"paths[0]: "{id}" has a brace; write `template`"#),
        (
            r#"{"paths":[{"template":"/id"}]}"#,
            r#"paths[0]: "/id" names no segment such as {id}; write `exact`"#,
        ),
        (
            r#"{"paths":[{"template":"/a{id}"}]}"#,
            r#"paths[0]: "a{id}" is not {name}: 1 to 32 of a-z, 0-9 and _, a letter first"#,
        ),
        (
            r#"{"paths":[{"template":"/{a}/{a}"}]}"#,
            r#"paths[0]: "{a}" stands twice; name one anew"#,
        ),
        (
            r#"{"hosts":["*"]}"#,
            r#"hosts[0]: "*" is not a host; write one such as api.example.com or *.example.com"#,
        ),
        (
            r#"{"hosts":["a.b:80"]}"#,
            r#"hosts[0]: "a.b:80" has more than a host; leave the port out"#,
        ),
        (
            r#"{"hosts":["a.*.b"]}"#,
            r#"hosts[0]: "a.*.b" is not a host; write one such as api.example.com or *.example.com"#,
        ),
        (
            r#"{"methods":["get"]}"#,
            r#"methods[0]: "get" is not a method; write it in upper case, such as GET"#,
        ),
        (r#"{"routes":[""]}"#, r#"routes[0]: "" is not a name; write at least one character"#),
        (
            r#"{"headers":[{"name":"x"}]}"#,
            "headers[0]: header x: write exactly one of `exact`, `prefix`, `suffix`, `present`",
        ),
        (
            r#"{"headers":[{"name":"x","exact":"a","prefix":"b"}]}"#,
            "headers[0]: header x: write exactly one of `exact`, `prefix`, `suffix`, `present`",
        ),
        (
            r#"{"headers":[{"name":"x","prefix":""}]}"#,
            "headers[0]: header x: an empty text fits every value; write `present: true`",
        ),
        (
            r#"{"headers":[{"name":"x","present":true,"lines":"any"}]}"#,
            "headers[0]: header x: `present` is about all lines; leave `lines` out",
        ),
        (
            r#"{"headers":[{"name":"x","exact":"a","lines":"agreeing"}]}"#,
            "headers[0].lines: `agreeing` is not `any` or `all`",
        ),
    ] {
        let found = crate::config::parse::<Match>(json.as_bytes());
        assert_eq!(found.map_err(|error| error.to_string()), Err(expected.to_owned()), "{json}");
    }
}

/// What servers make of a path, each in its way.
fn readings(path: &[u8]) -> Vec<Vec<u8>> {
    fn decode(path: &[u8]) -> Vec<u8> {
        let (mut decoded, mut rest) = (Vec::new(), path);
        while let Some((&first, after)) = rest.split_first() {
            let code = after.get(..2).and_then(|code| std::str::from_utf8(code).ok());
            match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
                Some(byte) if first == b'%' && !code.unwrap().starts_with('+') => {
                    decoded.push(byte);
                    rest = &after[2..];
                }
                _ => {
                    decoded.push(first);
                    rest = after;
                }
            }
        }
        decoded
    }
    /// Backslashes are slashes; parameters, empty and dot segments go.
    fn lenient(path: &[u8]) -> Vec<u8> {
        let path: Vec<u8> = path.iter().map(|b| if *b == b'\\' { b'/' } else { *b }).collect();
        let mut kept: Vec<&[u8]> = Vec::new();
        for segment in path.split(|b| *b == b'/') {
            match segment.split(|b| *b == b';').next().unwrap() {
                b"" | b"." => {}
                b".." => drop(kept.pop()),
                segment => kept.push(segment),
            }
        }
        [b"/".to_vec(), kept.join(&b'/')].concat()
    }
    let path = path.split(|b| *b == b'?').next().unwrap();
    let (once, twice) = (decode(path), decode(&decode(path)));
    let stem = once.split(|b| *b == b'#' || *b == b'?' || *b == 0).next().unwrap();
    [
        lenient(path),
        lenient(&once),
        lenient(&twice),
        lenient(stem),
        lenient(&decode(&lenient(path))),
    ]
    .into_iter()
    .map(|path| decode(&path))
    .collect()
}

/// Paths made of what is used to slip by rules.
fn crooked_paths() -> impl Strategy<Value = String> {
    const PARTS: [&str; 32] = [
        "/", "/", "/", "/", "admin", "admin", "a", "dmin", ".", "..", "%2e", "%2F", "%2f", "%5c",
        "\\", ";", ";x", "%61", "%41", "%25", "%2561", "%00", "%3b", "%3F", "%23", "%", "?", "#",
        "%c0%af", "%20", "public", "%c3%bc",
    ];
    vec(select(&PARTS[..]), 1..8).prop_map(|parts| format!("/{}", parts.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn no_path_slips_by_a_rule_in_any_reading(path in crooked_paths()) {
        let rule = rule(r#"{"paths":[{"prefix":"/admin"}]}"#);
        let headers = lines(&[(":path", &path)]);
        let is_admin =
            |reading: &Vec<u8>| reading == b"/admin" || reading.starts_with(b"/admin/");
        let readings = readings(path.as_bytes());
        match verdict(&rule, &headers).as_str() {
            "yes" => prop_assert!(readings.iter().all(is_admin), "{path}: {readings:?}"),
            "no" => prop_assert!(!readings.iter().any(is_admin), "{path}: {readings:?}"),
            _ => {}
        }
    }

    #[test]
    fn any_request_is_answered(
        found in vec((
            select(&[":path", ":method", ":authority", "x-tier"][..]),
            vec(any::<u8>(), 0..12),
        ), 0..6),
    ) {
        let rule = rule(
            r#"{"paths":[{"template":"/a/{b}"}],"hosts":["*.a"],"methods":["GET"],
                "headers":[{"name":"x-tier","suffix":"a"}]}"#,
        );
        let headers: Headers = found.into_iter().collect();
        let literally = Request::new(&headers, &NoNames, Ambiguous::Literal);
        prop_assert!(rule.test(&literally).is_ok());
        let strictly = Request::new(&headers, &NoNames, Ambiguous::Deny);
        if rule.test(&strictly) == Ok(true) {
            prop_assert_eq!(headers.all(":path").count(), 1);
        }
    }

    #[test]
    fn any_host_is_answered(host in "[a-c.:@\\[\\]0-9*% ]{0,12}") {
        let rule = rule(r#"{"hosts":["a.b"]}"#);
        let found = verdict(&rule, &lines(&[(":authority", &host)]));
        if found == "yes" {
            prop_assert!(host.starts_with("a.b"), "{host}");
        }
    }
}
