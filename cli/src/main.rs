//! The `tollgate` command: one file per subcommand, no logic of its own.
//!
//! Exit codes: 0 done, 1 what was checked failed, 2 wrong usage or unreadable input, also of a part. With
//! `--format json` one JSON document goes to standard output, everything else to standard error.

#![forbid(unsafe_code)]

mod bench;
mod build;
mod chain;
mod changes;
mod check;
mod demo;
mod deployed;
mod explain;
mod filters;
mod images;
mod inspect;
mod limits;
mod lint;
mod loading;
mod metrics;
mod new;
mod pull;
mod push;
mod render;
mod replay;
mod serve;
mod test;
mod trace;
mod verify;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

/// The offline host makes and drops many small values for each request; this takes a fifth less time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Filters for Envoy: build, test, trace, check and measure them.
#[derive(Parser)]
#[command(name = "tollgate", version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a project for a filter, which builds and tests at once.
    New(new::New),
    /// Build the filters of this workspace into finished modules.
    Build(build::Build),
    /// Play scenarios and judge what comes of them.
    Test(test::Test),
    /// Print the callbacks and host calls of a scenario, in order.
    Trace(trace::Trace),
    /// Tell whether a module loads, and whether it takes a configuration.
    Check(check::Check),
    /// Tell what a policy makes of one request, step by step.
    Explain(explain::Explain),
    /// Write the resource that brings a filter with its policy into a proxy.
    Render(render::Render),
    /// Store a module in registries, as an image that meshes take.
    Push(push::Push),
    /// Read the module out of an image, in whatever layout it lies there.
    Pull(pull::Pull),
    /// Tell what an image is, and what module it has.
    Inspect(inspect::Inspect),
    /// Tell whether meshes would take an image, and whether Envoy would load its module.
    Verify(verify::Verify),
    /// Find the traps in resources that bring filters into a mesh.
    Lint(lint::Lint),
    /// Write what proxies, Prometheus and Grafana have to be told of a policy of `metrics`.
    Metrics(metrics::Metrics),
    /// Run a local HTTP proxy with filters in it.
    Serve(serve::Serve),
    /// Play a recording of `serve` again, and compare the decisions.
    Replay(replay::Replay),
    /// Measure what filters cost, beside each other: time, host calls, fuel, bytes copied.
    Bench(bench::Bench),
    /// Play scenarios as a tour: each request, the decision, why, and what it cost.
    Demo(demo::Demo),
}

/// How results are written to standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// One JSON document.
    Json,
}

/// What a command came to.
enum Outcome {
    /// It is done, or what was checked holds.
    Done,
    /// What was checked failed.
    Failed,
    /// Some of it could not be read or played, which has been told.
    Partial,
}

/// Writes a line to standard output. Whoever reads may have seen enough, as `head` has.
///
/// # Errors
///
/// When it cannot be written for another reason.
fn print(text: &str) -> io::Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::New(new) => new.run(),
        Command::Build(build) => build.run(),
        Command::Test(test) => test.run(),
        Command::Trace(trace) => trace.run(),
        Command::Check(check) => check.run(),
        Command::Explain(explain) => explain.run(),
        Command::Render(render) => render.run(),
        Command::Push(push) => push.run(),
        Command::Pull(pull) => pull.run(),
        Command::Inspect(inspect) => inspect.run(),
        Command::Verify(verify) => verify.run(),
        Command::Lint(lint) => lint.run(),
        Command::Metrics(metrics) => metrics.run(),
        Command::Serve(serve) => serve.run(),
        Command::Replay(replay) => replay.run(),
        Command::Bench(bench) => bench.run(),
        Command::Demo(demo) => demo.run(),
    };
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::from(1),
        Ok(Outcome::Partial) => ExitCode::from(2),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
