//! The scenarios on the filter as it is linked here, without WebAssembly, and a connection by hand.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use example_preamble::Preamble;
use tollgate::registration;
use tollgate::testing::{End, Proxy};

#[test]
fn every_scenario_goes_as_it_says() {
    let passed = tollgate::testing::scenarios("scenarios", registration!(Preamble)).unwrap();
    assert!(passed > 0);
}

#[test]
fn however_a_preamble_is_cut_it_is_known_and_no_byte_is_lost() {
    let hello = b"SSH-2.0-client\r\n";
    for cut in 1..hello.len() {
        let mut proxy = Proxy::with(registration!(Preamble))
            .tcp()
            .config(r#"{ "protocols": ["ssh"] }"#)
            .start()
            .unwrap();
        let (first, rest) = hello.split_at(cut);
        let connection = proxy.connect().client_sends(first).client_sends(rest).run().unwrap();
        let upstream = connection.upstream().unwrap();
        assert_eq!(upstream.got(), hello, "cut at {cut}: {connection}");
        assert_eq!(upstream.end(), End::Open, "cut at {cut}: {connection}");
    }
}
