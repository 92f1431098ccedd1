//! `tollgate new`: a project for a filter, outside this repository, that builds and tests at once.
//!
//! Its files lie in `cli/templates/new`, with a few words to replace.

use std::error::Error;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::Outcome;

/// Arguments of `tollgate new`.
#[derive(Args)]
pub(crate) struct New {
    /// The name of the filter, of its crate and of the folder that is made.
    name: String,
    /// Where the SDK comes from: a checkout of Tollgate, or the URL of its git repository.
    #[arg(long, value_name = "PATH|URL", default_value = REPOSITORY)]
    sdk: String,
}

const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");

/// The files of a project, and what they begin as.
const FILES: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("../templates/new/Cargo.toml.in")),
    ("rust-toolchain.toml", include_str!("../templates/new/rust-toolchain.toml")),
    (".gitignore", include_str!("../templates/new/gitignore")),
    ("README.md", include_str!("../templates/new/README.md")),
    ("config.yaml", include_str!("../templates/new/config.yaml")),
    ("policy.yaml", include_str!("../templates/new/policy.yaml")),
    ("src/lib.rs", include_str!("../templates/new/src/lib.rs")),
    ("tests/scenarios.rs", include_str!("../templates/new/tests/scenarios.rs")),
    ("tests/scenarios/tenants.yaml", include_str!("../templates/new/tests/scenarios/tenants.yaml")),
    (
        "tests/scenarios/no-tenants.yaml",
        include_str!("../templates/new/tests/scenarios/no-tenants.yaml"),
    ),
    ("wasm/Cargo.toml", include_str!("../templates/new/wasm/Cargo.toml.in")),
    ("wasm/src/lib.rs", include_str!("../templates/new/wasm/src/lib.rs")),
];

impl New {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// A name that no crate can have, a folder that is there already, an SDK that is not.
    pub(crate) fn run(self) -> Result<Outcome> {
        check(&self.name)?;
        let words = [
            ("{{name}}", self.name.clone()),
            ("{{crate}}", self.name.replace('-', "_")),
            ("{{sdk}}", dependency(&self.sdk)?),
            ("{{repository}}", REPOSITORY.to_owned()),
        ];
        let folder = Path::new(&self.name);
        // Of two who make it at once only one succeeds.
        fs::create_dir(folder)
            .with_context(|| format!("{} cannot be made, and is left alone", folder.display()))?;
        for (file, template) in FILES {
            let path = folder.join(file);
            let text = words
                .iter()
                .fold((*template).to_owned(), |text, (word, with)| text.replace(word, with));
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).with_context(|| format!("{}", parent.display()))?;
            }
            fs::write(&path, text).with_context(|| format!("{}", path.display()))?;
        }
        eprintln!(
            "{} is made; in it, run `cargo test`, then `tollgate build` and `tollgate test`",
            folder.display()
        );
        Ok(Outcome::Done)
    }
}

/// How a manifest names the SDK: by git, or by the path of its crate.
fn dependency(sdk: &str) -> Result<String> {
    if sdk.contains("://") {
        return Ok(format!("{{ git = {} }}", quoted(sdk)?));
    }
    let checkout = Path::new(sdk)
        .canonicalize()
        .with_context(|| format!("--sdk: {sdk} is neither a URL nor a folder"))?;
    let path = checkout.join("sdk");
    if !path.join("Cargo.toml").is_file() {
        bail!("--sdk: {} is no checkout of Tollgate, it has no sdk/Cargo.toml", checkout.display());
    }
    let path = path.to_str().with_context(|| format!("--sdk: {} is not UTF-8", path.display()))?;
    Ok(format!("{{ path = {} }}", quoted(path)?))
}

/// A text as TOML writes it, which takes all of JSON's.
fn quoted(text: &str) -> Result<String> {
    Ok(serde_json::to_string(text)?)
}

/// The longest name: crates may have 64 characters, and the module's adds `-wasm`.
const LONGEST_NAME: usize = 59;

/// What is no name of a crate, or would hide one that a filter uses.
#[rustfmt::skip]
const RESERVED: &[&str] = &[
    "abstract", "alloc", "as", "async", "await", "become", "box", "break", "build", "const",
    "continue", "core", "crate", "deps", "do", "dyn", "else", "enum", "examples", "extern", "false",
    "final", "fn", "for", "gen", "if", "impl", "in", "incremental", "let", "loop", "macro", "match",
    "mod", "move", "mut", "override", "priv", "proc-macro", "proc_macro", "pub", "ref", "return",
    "schemars", "self", "serde", "static", "std", "struct", "super", "test", "tollgate", "trait",
    "true", "try", "type", "typeof", "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

/// Why a filter cannot be called so.
#[derive(Debug, PartialEq, Eq)]
enum InvalidName {
    TooLong { length: usize },
    Begins { name: String },
    Character { name: String, character: char },
    Reserved { name: String },
}

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { length } => {
                write!(f, "the name has {length} characters, which is above {LONGEST_NAME}")
            }
            Self::Begins { name } => write!(f, "`{name}` does not begin with a letter, a to z"),
            Self::Character { name, character } => write!(
                f,
                "`{name}` has `{}` in it; a name has letters, digits, - and _",
                character.escape_debug()
            ),
            Self::Reserved { name } => {
                write!(f, "`{name}` is taken by Rust, cargo or the SDK; choose another name")
            }
        }
    }
}

impl Error for InvalidName {}

fn check(name: &str) -> Result<(), InvalidName> {
    let is_part = |c: &char| c.is_ascii_alphanumeric() || ['-', '_'].contains(c);
    let shown = || name.escape_debug().to_string();
    if !name.starts_with(|first: char| first.is_ascii_alphabetic()) {
        return Err(InvalidName::Begins { name: shown() });
    }
    if let Some(character) = name.chars().find(|c| !is_part(c)) {
        return Err(InvalidName::Character { name: shown(), character });
    }
    if name.len() > LONGEST_NAME {
        return Err(InvalidName::TooLong { length: name.len() });
    }
    if RESERVED.contains(&name.to_ascii_lowercase().as_str()) {
        return Err(InvalidName::Reserved { name: shown() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_called_as_a_crate_may_be() {
        let check = |name: &str, expected: Result<(), &str>| {
            let found = check(name).map_err(|error| error.to_string());
            assert_eq!(found, expected.map_err(str::to_owned), "{name}");
        };
        check("tenants", Ok(()));
        check("My-filter_2", Ok(()));
        check(&"a".repeat(59), Ok(()));
        check(&"a".repeat(60), Err("the name has 60 characters, which is above 59"));
        check("", Err("`` does not begin with a letter, a to z"));
        check("2nd", Err("`2nd` does not begin with a letter, a to z"));
        check("-a", Err("`-a` does not begin with a letter, a to z"));
        check("../a", Err("`../a` does not begin with a letter, a to z"));
        check("a/b", Err("`a/b` has `/` in it; a name has letters, digits, - and _"));
        check("a.b", Err("`a.b` has `.` in it; a name has letters, digits, - and _"));
        check("é", Err("`é` does not begin with a letter, a to z"));
        check("fn", Err("`fn` is taken by Rust, cargo or the SDK; choose another name"));
        check(
            "Tollgate",
            Err("`Tollgate` is taken by Rust, cargo or the SDK; choose another name"),
        );
    }

    #[test]
    fn a_project_has_the_toolchain_of_this_repository() {
        let channel =
            |text: &str| text.lines().find(|line| line.starts_with("channel")).unwrap().to_owned();
        let own = include_str!("../../rust-toolchain.toml");
        let template = include_str!("../templates/new/rust-toolchain.toml");
        assert_eq!(channel(template), channel(own));
    }
}
