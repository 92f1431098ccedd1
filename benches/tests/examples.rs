//! Each example of the SDK is shorter than the same filter on the `proxy-wasm` crate, which does less.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

/// Lines that are neither empty nor comment, without the unit tests.
fn lines(file: &Path) -> usize {
    let text = fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let is_code = |line: &&str| !line.is_empty() && !line.starts_with("//");
    code.lines().map(str::trim).filter(is_code).count()
}

#[test]
fn each_example_is_shorter_than_on_the_stock_crate() {
    let check = |name: &str, example: &str| {
        let benches = Path::new(env!("CARGO_MANIFEST_DIR"));
        let ours = lines(&benches.join("../examples").join(example).join("src/lib.rs"));
        let stock = benches.join("fixtures/stock-examples/examples").join(name);
        let stock = lines(&stock.with_extension("rs"));
        println!("{name}: {ours} lines on the SDK, {stock} on the stock crate");
        assert!(ours < stock, "{name}: {ours} lines on the SDK, {stock} on the stock crate");
    };
    check("hello", "02-hello");
    check("tenants", "03-tenants");
    check("depth", "04-body");
    check("lockout", "05-state");
    check("authoriser", "06-async-authoriser");
}
