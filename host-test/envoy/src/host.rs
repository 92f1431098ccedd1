//! A real Envoy as a place where scenarios run.

use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;

use tempfile::TempDir;
use tollgate_host::proxy::{Proxy, ProxyHost, StartError};
use tollgate_host::scenario::{FilterSource, HostName, Scenario};

use crate::delivery::{Delivery, InPlace};
use crate::launch::{Launch, NotStarted};
use crate::proxy::{EnvoyProxy, refuse_faults};

/// The host that runs each scenario on an Envoy process of its own.
///
/// A process lives no longer than the value that [`start`](ProxyHost::start) gives, and no longer than
/// our own process, however that ends.
#[derive(Debug)]
pub struct EnvoyHost {
    envoy: PathBuf,
    built_ins: PathBuf,
    delivery: Box<dyn Delivery>,
}

impl EnvoyHost {
    /// A host with the binary `envoy`; the modules of built-in filters are in the folder `built_ins`.
    pub fn new(envoy: PathBuf, built_ins: PathBuf) -> Self {
        Self { envoy, built_ins, delivery: Box::new(InPlace) }
    }

    /// The same, with filters that come into the chain by `delivery`.
    #[must_use]
    pub fn delivering(self, delivery: Box<dyn Delivery>) -> Self {
        Self { delivery, ..self }
    }

    fn modules(&self, scenario: &Scenario) -> Result<Vec<PathBuf>, NoModule> {
        let file = |source: &FilterSource| {
            let file = source.file(&self.built_ins);
            fs::canonicalize(&file).map_err(|error| NoModule { file, error })
        };
        scenario.filters.iter().map(|filter| file(&filter.source)).collect()
    }
}

impl ProxyHost for EnvoyHost {
    fn name(&self) -> HostName {
        HostName::Envoy
    }

    fn start(&self, scenario: &Scenario) -> Result<Box<dyn Proxy + '_>, StartError> {
        let host = |error: NotStarted| StartError::Host(Box::new(error));
        let impossible = |failure| StartError::Host(Box::new(failure));
        refuse_faults(&scenario.start.faults).map_err(impossible)?;
        let modules =
            self.modules(scenario).map_err(|error| StartError::Module(Box::new(error)))?;
        let folder = TempDir::with_prefix("tollgate-envoy-");
        let folder = folder.map_err(|error| host(NotStarted::Io(error)))?;
        let filters = self.delivery.chain(scenario, &modules, folder.path())?;
        let mut launch = Launch::begin(&self.envoy, scenario, folder, filters).map_err(host)?;
        let at_once = scenario.steps.iter().map(|step| step.requests().count()).max();
        match launch.wait(scenario, at_once.unwrap_or_default().max(1)) {
            Ok((admin, ways, readers)) => {
                let built_ins = self.built_ins.clone();
                let proxy = EnvoyProxy::new(launch, admin, ways, readers, scenario, built_ins);
                Ok(Box::new(proxy))
            }
            Err(error) => match launch.log.refusal() {
                Some(words) => Err(StartError::Refused { words }),
                None => Err(host(error)),
            },
        }
    }
}

/// A module cannot be read.
#[derive(Debug)]
struct NoModule {
    file: PathBuf,
    error: io::Error,
}

impl fmt::Display for NoModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; build the filter first", self.file.display(), self.error)
    }
}

impl std::error::Error for NoModule {}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_ends_while_it_starts_is_told_in_its_own_words() {
        let folder = tempfile::tempdir().unwrap();
        let envoy = folder.path().join("envoy");
        fs::write(&envoy, "#!/bin/sh\necho 'no memory left' >&2; exit 1").unwrap();
        fs::set_permissions(&envoy, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(folder.path().join("any.wasm"), "").unwrap();
        let scenario = "{ name: any, filters: [ { filter: any } ], steps: [ { request: {} } ] }";
        let scenario = Scenario::parse(scenario).unwrap();
        let host = EnvoyHost::new(envoy, folder.path().into());
        match host.start(&scenario).map(|_| ()) {
            Err(StartError::Host(error)) => assert_eq!(
                error.to_string(),
                "Envoy ended while it started; it said:\nno memory left"
            ),
            other => panic!("{other:?}"),
        }
    }
}
