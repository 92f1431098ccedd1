//! A connection of TCP: its events, one by one, each until nothing more comes of it.

use tokio::time::sleep;
use tollgate_host::proxy::{Conversation, HostFailure, STAYS_OPEN};
use tollgate_host::scenario::{ConnectionStep, Event};

use super::{EnvoyProxy, broken, impossible, refuse_long};
use crate::launch::Launch;
use crate::tcp::{Line, NotConnected};

impl EnvoyProxy {
    pub(super) fn converse(
        &mut self,
        worker: usize,
        step: &ConnectionStep,
    ) -> Result<Conversation, HostFailure> {
        self.plan(&step.callouts)?;
        let Launch { runtime, tcp, .. } = &self.envoy;
        let workers = self.ways.tcp()?;
        let opened = workers.open(worker, step.peer.as_deref(), tcp);
        let mut line = runtime.block_on(opened).map_err(broken)?;
        self.calm(&mut line)?;
        let mut moments = vec![line.moment()];
        for (index, event) in step.events.iter().enumerate() {
            self.let_happen(&mut line, index, event)?;
            self.calm(&mut line)?;
            moments.push(line.moment());
        }
        let Launch { runtime, tcp, .. } = &self.envoy;
        runtime.block_on(line.finish(tcp)).map_err(broken)?;
        moments.push(line.moment());
        let refused = line.refused().map_err(broken)?;
        runtime.block_on(self.ways.tcp()?.close(line)).map_err(|failed| match failed {
            NotConnected::Stays => HostFailure::Harm { what: STAYS_OPEN.into() },
            failed => broken(failed),
        })?;
        Ok(Conversation { moments, refused, callouts: self.made()?, cost: None })
    }

    fn let_happen(&self, line: &mut Line, index: usize, event: &Event) -> Result<(), HostFailure> {
        let Launch { runtime, .. } = &self.envoy;
        match event {
            Event::Client(act) => {
                let _within = runtime.enter();
                line.client(act).map_err(broken)?;
            }
            Event::Upstream(act) => {
                let _within = runtime.enter();
                if !line.upstream(act).map_err(broken)? {
                    let event = index + 1;
                    let what =
                        format!("event {event}: no connection has come to the upstream by now");
                    return Err(impossible(what));
                }
            }
            Event::Advance(by) => {
                refuse_long(*by)?;
                runtime.block_on(async { sleep(*by).await });
            }
            Event::Expect(_) => {}
        }
        Ok(())
    }

    /// Waits until nothing comes of an event any more, the callouts that guests make of it included.
    fn calm(&self, line: &mut Line) -> Result<(), HostFailure> {
        let Launch { runtime, tcp, clusters, .. } = &self.envoy;
        runtime.block_on(line.settle(tcp)).map_err(broken)?;
        if !clusters.is_empty() {
            self.calm_down()?;
            runtime.block_on(line.settle(tcp)).map_err(broken)?;
        }
        Ok(())
    }
}
