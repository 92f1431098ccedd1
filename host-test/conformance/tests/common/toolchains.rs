//! Modules that other compilers make, built from `modules/toolchains` and from the benches.
//!
//! `cargo ci` fetches the compilers into `target/toolchains`; clang is a package of the system.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{TARGET, compile_filters, root};

/// How a module is made.
struct Recipe {
    /// What it is called.
    name: &'static str,
    /// Its source, or the folder of that.
    source: &'static str,
    tool: Tool,
    /// How it is optimised, and what else the compiler is told.
    flags: &'static [&'static str],
    /// What Envoy says when it refuses it.
    refused: Option<&'static str>,
}

/// A compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Tool {
    /// Clang with the library of WASI, as a reactor.
    ClangWasi,
    /// Clang without a library.
    Clang,
    /// Zig without WASI.
    Zig,
    /// Zig with WASI, as a command.
    ZigWasi,
    /// The compiler of `AssemblyScript`.
    AssemblyScript,
    /// Go, as a reactor of WASI.
    Go,
    /// Rust, with a package of the benches.
    Rust,
}

const RECIPES: [Recipe; 12] = [
    Recipe { name: "c", source: "filter.c", tool: Tool::ClangWasi, flags: &["-Os"], refused: None },
    Recipe {
        name: "c-debug",
        source: "filter.c",
        tool: Tool::ClangWasi,
        flags: &["-O0", "-g"],
        refused: None,
    },
    Recipe {
        name: "c-freestanding",
        source: "freestanding.c",
        tool: Tool::Clang,
        flags: &["-Os"],
        refused: None,
    },
    Recipe {
        name: "cpp",
        source: "filter.cc",
        tool: Tool::ClangWasi,
        flags: &["-Os", "-fno-exceptions", "-fno-rtti"],
        refused: None,
    },
    Recipe {
        name: "zig",
        source: "filter.zig",
        tool: Tool::Zig,
        flags: &["-O", "ReleaseSmall"],
        refused: None,
    },
    Recipe {
        name: "zig-safe",
        source: "filter.zig",
        tool: Tool::Zig,
        flags: &["-O", "ReleaseSafe"],
        refused: None,
    },
    Recipe {
        name: "zig-command",
        source: "command.zig",
        tool: Tool::ZigWasi,
        flags: &["-O", "ReleaseSmall"],
        refused: Some("Function: _start failed"),
    },
    Recipe {
        name: "assemblyscript",
        source: "filter.ts",
        tool: Tool::AssemblyScript,
        flags: &["--runtime", "minimal", "--optimize"],
        refused: None,
    },
    Recipe {
        name: "assemblyscript-collected",
        source: "filter.ts",
        tool: Tool::AssemblyScript,
        flags: &["--runtime", "incremental", "--debug"],
        refused: None,
    },
    Recipe { name: "go", source: "go", tool: Tool::Go, flags: &[], refused: None },
    Recipe {
        name: "fixture_stock",
        source: "tollgate-bench-stock",
        tool: Tool::Rust,
        flags: &[],
        refused: None,
    },
    Recipe {
        name: "fixture_handwritten",
        source: "tollgate-bench-handwritten",
        tool: Tool::Rust,
        flags: &[],
        refused: None,
    },
];

/// A module that a compiler made, or why there is none.
pub(crate) struct Made {
    pub(crate) name: &'static str,
    pub(crate) tool: Tool,
    pub(crate) file: Result<PathBuf, String>,
    pub(crate) refused: Option<&'static str>,
}

/// Makes every module whose compiler is there.
pub(crate) fn make() -> Vec<Made> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("toolchains");
    fs::create_dir_all(&folder).unwrap();
    let made = RECIPES.iter().map(|recipe| Made {
        name: recipe.name,
        tool: recipe.tool,
        file: recipe.make(&folder),
        refused: recipe.refused,
    });
    made.collect()
}

impl Recipe {
    fn make(&self, folder: &Path) -> Result<PathBuf, String> {
        if self.tool == Tool::Rust {
            let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
            let manifest = root().join("benches/Cargo.toml");
            compile_filters(&manifest, target, &["--lib"], &[self.source]);
            return Ok(target.join(TARGET).join("filter").join(self.name).with_extension("wasm"));
        }
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("modules/toolchains");
        let source = source.join(self.source);
        let file = folder.join(self.name).with_extension("wasm");
        let mut command = self.tool.command(&source, &file, folder)?;
        command.args(self.flags);
        if self.tool == Tool::Go {
            command.arg(".");
        }
        let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {said}");
        Ok(file)
    }
}

impl Tool {
    /// What makes a module of a source; the error says what is missing.
    fn command(self, source: &Path, file: &Path, folder: &Path) -> Result<Command, String> {
        let fetched = root().join("target/toolchains");
        let cache = folder.join("cache");
        match self {
            Self::Clang | Self::ClangWasi => {
                let library = Path::new("/usr/lib/wasm32-wasi/libc.a");
                if !answers("clang", "--version") || !answers("wasm-ld", "--version") {
                    return Err("clang or lld is not installed".into());
                }
                if self == Self::ClangWasi && !library.is_file() {
                    return Err(format!("wasi-libc is not installed: no {}", library.display()));
                }
                let mut command = Command::new("clang");
                let own: &[&str] = match self {
                    Self::ClangWasi => &["--target=wasm32-wasi", "-mexec-model=reactor"],
                    _ => &[
                        "--target=wasm32",
                        "-nostdlib",
                        "-ffreestanding",
                        "-fno-builtin",
                        "-Wl,--no-entry",
                    ],
                };
                command.args(own).arg(source).arg("-o").arg(file);
                Ok(command)
            }
            Self::Zig | Self::ZigWasi => {
                let mut command = program(&fetched.join("venv/bin/python-zig"), "Zig")?;
                command.arg("build-exe").arg(source);
                command.args(match self {
                    Self::ZigWasi => &["-target", "wasm32-wasi"][..],
                    _ => &["-target", "wasm32-freestanding", "-fno-entry"],
                });
                command.arg("-rdynamic");
                command.arg("--cache-dir").arg(&cache).arg("--global-cache-dir").arg(&cache);
                command.arg(format!("-femit-bin={}", file.display()));
                Ok(command)
            }
            Self::AssemblyScript => {
                let compiler = fetched.join("node_modules/assemblyscript/bin/asc.js");
                if !compiler.is_file() || !answers("node", "--version") {
                    return Err("AssemblyScript or node is not installed".into());
                }
                let mut command = Command::new("node");
                // Paths in the module's own names are relative to the folder.
                command.current_dir(source.parent().unwrap_or(source)).arg(compiler);
                command.arg(source.file_name().unwrap_or_default()).arg("-o").arg(file);
                command.args(["--use", "abort=filter/stop"]);
                Ok(command)
            }
            Self::Go => {
                let mut command = program(&fetched.join("venv/bin/go"), "Go")?;
                command.current_dir(source).args(["build", "-buildmode=c-shared", "-o"]).arg(file);
                command.envs([("GOOS", "wasip1"), ("GOARCH", "wasm"), ("GOTOOLCHAIN", "local")]);
                command.envs([("GOFLAGS", ""), ("GOWORK", "off")]);
                command.env("GOCACHE", cache);
                Ok(command)
            }
            Self::Rust => Err("cargo makes these".into()),
        }
    }
}

fn program(path: &Path, what: &str) -> Result<Command, String> {
    if answers(path, "version") {
        Ok(Command::new(path))
    } else {
        Err(format!("{what} is not installed: no {}", path.display()))
    }
}

fn answers(program: impl AsRef<OsStr>, argument: &str) -> bool {
    let mut command = Command::new(program);
    command.arg(argument).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Whether what is missing is a failure.
pub(crate) fn is_ci() -> bool {
    env::var("CI").as_deref() == Ok("true")
}
