//! The bytes that the scenarios of `ratelimit-global` hold the filter to are those of Envoy's messages.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use prost::Message;

/// Where the scenarios are, from the root of the repository.
const FOLDERS: &[&str] =
    &["filters/ratelimit/tests/global/scenarios", "examples/10-fleet-rate-limit/scenarios"];

/// Answers that are none, each with its scenario.
const NO_MESSAGE: &[&str] = &["malformed.yaml"];

/// The messages in a line, in hex.
fn messages(line: &str) -> impl Iterator<Item = Vec<u8>> {
    line.split("{ hex: \"").skip(1).filter_map(|rest| {
        let (hex, _) = rest.split_once('"')?;
        let byte = |at| u8::from_str_radix(hex.get(at..at + 2).unwrap(), 16).unwrap();
        Some((0..hex.len()).step_by(2).map(byte).collect())
    })
}

/// Reads a message and writes it again.
fn rewritten<M: Message + Default>(bytes: &[u8]) -> Vec<u8> {
    M::decode(bytes).unwrap().encode_to_vec()
}

#[test]
fn requests_and_answers_of_scenarios_are_messages_of_envoy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let mut read = [0, 0];
    for entry in FOLDERS.iter().flat_map(|folder| fs::read_dir(root.join(folder)).unwrap()) {
        let file = entry.unwrap().path();
        let is_none = NO_MESSAGE.iter().any(|name| file.ends_with(name));
        for line in fs::read_to_string(&file).unwrap().lines() {
            for bytes in messages(line) {
                if line.trim_start().starts_with("grpc: { service:") {
                    assert_eq!(rewritten::<RateLimitRequest>(&bytes), bytes, "{line}");
                    read[0] += 1;
                } else if line.contains("answer_grpc:") && !is_none {
                    assert_eq!(rewritten::<RateLimitResponse>(&bytes), bytes, "{line}");
                    read[1] += 1;
                }
            }
        }
    }
    assert!(read.iter().all(|count| *count > 10), "{read:?}");
}
