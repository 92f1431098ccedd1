//! Runs Proxy-Wasm modules on wasmtime: memory, fuel, deadlines, and compiled modules cached on disk.
//!
//! What a host call means is decided in `tollgate-host`; here a call is only read out of the guest's
//! memory and its answer written back.
//!
//! # Examples
//!
//! A test of a module, request by request; all that [`tollgate_host::testing`] can do, it can, too.
//!
//! ```
//! use tollgate_host::testing::Proxy;
//! use tollgate_host_wasmtime::Wasmtime;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let filter = tempfile::NamedTempFile::new()?;
//! # std::fs::write(&filter, wat::parse_str(r#"(module
//! #   (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
//! #   (memory (export "memory") 1) (data (i32.const 0) "x-seenyes")
//! #   (func (export "proxy_abi_version_0_2_1"))
//! #   (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 1024)
//! #   (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
//! #     (call $add (i32.const 0) (i32.const 0) (i32.const 6) (i32.const 6) (i32.const 3))))"#)?)?;
//! let module = Wasmtime::cached()?.load(&std::fs::read(&filter)?)?;
//! let mut proxy = Proxy::with(module).config("{}").workers(2).start()?;
//! let exchange = proxy.get("/orders").header("x-user", "alice").send()?;
//! assert_eq!(exchange.status(), Some(200), "{exchange}");
//! assert_eq!(exchange.upstream().unwrap().header("x-seen").unwrap(), "yes");
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod ask;
mod backtrace;
mod bounds;
mod exports;
mod guest;
mod handed;
mod imports;
mod link;
mod load;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use wasmtime::{Cache, CacheConfig, Config, Engine, WasmBacktraceDetails};

pub use ask::AskError;
pub use load::{LoadError, WasmModule};
pub use tollgate_host::limits::Limits;

/// How often a running guest is asked whether its time is over.
const EPOCH: Duration = Duration::from_millis(10);

/// A wasmtime engine; modules that it compiled run on it.
pub struct Wasmtime {
    engine: Engine,
    limits: Limits,
    cache: Option<Cache>,
}

impl Wasmtime {
    /// An engine that keeps compiled modules in `cache`, an absolute path, or nowhere.
    ///
    /// # Errors
    ///
    /// [`EngineError`] when the cache cannot be used or this machine cannot run wasmtime.
    pub fn new(limits: Limits, cache: Option<PathBuf>) -> Result<Self, EngineError> {
        let mut config = Config::new();
        config
            .consume_fuel(true)
            .epoch_interruption(true)
            .wasm_backtrace_details(WasmBacktraceDetails::Enable);
        let cache = cache.map(|folder| {
            let mut config = CacheConfig::new();
            config.with_directory(folder);
            Cache::new(config)
        });
        let cache = cache.transpose().map_err(EngineError::new)?;
        config.cache(cache.clone());
        let engine = Engine::new(&config).map_err(EngineError::new)?;
        let weak = engine.weak();
        // The clock ends with the engine: within one tick of the last module being gone.
        std::thread::Builder::new()
            .name("epoch".into())
            .spawn(move || {
                while let Some(engine) = weak.upgrade() {
                    engine.increment_epoch();
                    drop(engine);
                    std::thread::sleep(EPOCH);
                }
            })
            .map_err(|error| EngineError(error.to_string()))?;
        Ok(Self { engine, limits, cache })
    }

    /// An engine with the default limits and with its cache below [`cache_folder`]; without a cache where
    /// there is no such folder.
    ///
    /// # Errors
    ///
    /// As [`Self::new`].
    pub fn cached() -> Result<Self, EngineError> {
        Self::new(Limits::default(), cache_folder())
    }

    /// Compiles a module, or takes it from the cache.
    ///
    /// # Errors
    ///
    /// [`LoadError`] when it is not wasm, is too large, or when Envoy would not load it. Imports that no host
    /// serves are no error yet: a scenario may declare what they answer.
    pub fn load(&self, bytes: &[u8]) -> Result<WasmModule, LoadError> {
        load::load(&self.engine, self.limits, bytes)
    }

    /// Asks a module for the text that `export` makes: a function without arguments that gives the
    /// address of the text in the upper half of a `u64`, and its length in the lower. The module runs
    /// without a host. `None` when it has no such export.
    ///
    /// # Errors
    ///
    /// [`AskError`] when it is not wasm, traps, or gives a place outside of its memory.
    pub fn ask(&self, bytes: &[u8], export: &str) -> Result<Option<Vec<u8>>, AskError> {
        ask::ask(&self.engine, self.limits, bytes, export)
    }

    /// How many modules were taken from the cache instead of being compiled.
    pub fn cache_hits(&self) -> usize {
        self.cache.as_ref().map_or(0, Cache::cache_hits)
    }
}

/// Where compiled modules are kept between processes, by their content: `$TOLLGATE_CACHE`, or `tollgate` in
/// the user's folder for caches. `None` when nothing says where that is.
pub fn cache_folder() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("TOLLGATE_CACHE") {
        return std::path::absolute(folder).ok();
    }
    let user = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache")))?;
    user.is_absolute().then(|| user.join("tollgate"))
}

/// The example of the README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// The engine cannot run here.
#[derive(Debug)]
pub struct EngineError(String);

impl EngineError {
    fn new(error: impl fmt::Display) -> Self {
        Self(format!("{error:#}"))
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wasmtime: {}", self.0)
    }
}

impl std::error::Error for EngineError {}
