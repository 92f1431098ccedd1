//! Requests on their way through a running Envoy.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use tokio::task::JoinSet;
use tollgate_host::proxy::{Callout, Exchange, HostFailure, Outcome, Received, Sending};
use tollgate_host::scenario::PlannedCallout;

use super::{EnvoyProxy, broken, configure, impossible, settle};
use crate::admin::Admin;
use crate::bootstrap::Apart;
use crate::client::{Connection, Outgoing, Seat, Taken};
use crate::launch::Launch;
use crate::message;
use crate::upstream::Client;

/// How long a request may take from Envoy to the upstream once its client has an answer.
const ARRIVING: Duration = Duration::from_millis(500);

/// Requests that have come to Envoy.
const BEGUN: &str = "http.ingress.downstream_rq_total";

/// Requests that Envoy began to send to the upstream.
const SENT: &str = "cluster.upstream.upstream_rq_total";

impl EnvoyProxy {
    /// Sends requests, and gives what came of them and the callouts that guests made.
    pub(super) fn carry(
        &mut self,
        requests: &[Sending<'_>],
        callouts: &[PlannedCallout],
    ) -> Result<(Vec<Exchange>, Vec<Callout>), HostFailure> {
        let (admin, apart) = (self.admin, self.apart);
        let outgoing = requests.iter().map(|sent| message::request(&sent.step.request));
        let outgoing: Vec<_> = outgoing.collect::<Result<_, _>>().map_err(impossible)?;
        let seats = self.ways.http()?;
        self.envoy.upstream.disarm(admin);
        let mut departures = Vec::new();
        let mut refused = BTreeMap::new();
        for (at, (sent, (request, feed))) in requests.iter().zip(outgoing).enumerate() {
            let taken = seats.take(sent.worker, sent.step.peer.as_deref());
            let (seat, connection) = match self.envoy.runtime.block_on(taken).map_err(broken)? {
                Taken::Connected(seat, connection) => (seat, connection),
                Taken::Refused(alert) => {
                    refused.insert(at, alert);
                    continue;
                }
            };
            let client = (apart == Apart::Yes).then_some(connection.port);
            self.envoy.upstream.arm(client, &sent.step.upstream).map_err(impossible)?;
            let disconnect = sent.step.request.disconnect;
            let outgoing = Outgoing { request, feed, disconnect };
            departures.push(Departure { after: sent.after, seat, client, connection, outgoing });
        }
        let let_in = requests.iter().enumerate().filter(|(at, _)| !refused.contains_key(at));
        let let_in: Vec<(usize, &Sending<'_>)> = let_in.collect();
        let clients: Vec<Client> = departures.iter().map(|departure| departure.client).collect();
        self.plan(callouts)?;
        // What one worker still does for the last request, another shall see.
        let workers: BTreeSet<usize> = requests.iter().map(|sent| sent.worker).collect();
        let last = std::mem::replace(&mut self.last_workers, workers.clone());
        if !last.is_empty() && last.union(&workers).count() > 1 {
            self.envoy.runtime.block_on(settle(admin)).map_err(broken)?;
        }
        let Launch { runtime, upstream, discovery, log, .. } = &mut self.envoy;
        let mut meanwhile = let_in.iter().zip(&clients);
        let meanwhile = meanwhile.find_map(|((index, sent), client)| {
            Some((*index, *client, sent.step.meanwhile.as_ref()?))
        });
        if let Some((_, client, _)) = meanwhile {
            upstream.hold(client);
        }
        let configuring = async {
            let Some((index, client, step)) = meanwhile else { return pending().await };
            upstream.holding(client).await;
            let configured = configure(step, &self.built_ins, discovery, log, admin).await;
            upstream.release(client);
            configured.map(|configured| (index, configured))
        };
        let both = async {
            let mut arrivals = pin!(depart(departures, admin));
            tokio::select! {
                arrived = &mut arrivals => (arrived, None),
                configured = configuring => (arrivals.await, Some(configured)),
            }
        };
        let (arrived, configured) = runtime.block_on(both);
        let (arrived, mut configured) = (arrived?, configured.transpose()?);
        let (outcomes, taken): (Vec<Outcome>, Vec<_>) = arrived.into_iter().unzip();
        runtime.block_on(self.ways.http()?.give_back(taken)).map_err(broken)?;
        let received = self.received(&clients)?;
        let mut carried = outcomes.into_iter().zip(received);
        let exchanges = (0..requests.len()).filter_map(|at| {
            let (outcome, upstream) = match refused.get(&at) {
                Some(alert) => (Outcome::Refused(*alert), None),
                None => carried.next()?,
            };
            let configured = configured.take_if(|(index, _)| *index == at);
            Some(Exchange {
                outcome,
                upstream,
                callouts: Vec::new(),
                configured: configured.map(|(_, configured)| configured),
                cost: None,
            })
        });
        Ok((exchanges.collect(), self.made()?))
    }

    /// What the upstream got of each client. A client may be answered before the upstream has seen the
    /// request.
    fn received(&mut self, clients: &[Client]) -> Result<Vec<Option<Received>>, HostFailure> {
        let Launch { runtime, upstream, .. } = &self.envoy;
        let received = || clients.iter().map(|client| upstream.received(*client)).collect();
        let came: Vec<Option<Received>> = received();
        if came.iter().all(Option::is_some) {
            return Ok(came);
        }
        let sent = runtime.block_on(self.admin.statistic(SENT)).map_err(broken)?;
        let expected = sent.saturating_sub(self.given_up);
        runtime.block_on(upstream.wait_for(expected, ARRIVING));
        self.given_up = sent.saturating_sub(upstream.requests());
        Ok(received())
    }
}

/// A request that leaves when its time has come.
struct Departure {
    after: Duration,
    seat: Seat,
    client: Client,
    connection: Connection,
    outgoing: Outgoing,
}

/// What came of a request, and its connection unless that is lost.
type Arrival = (Outcome, (Seat, Option<Connection>));

/// Sends requests when their times have come, each once Envoy has seen those before it, and waits for the
/// end of all.
async fn depart(departures: Vec<Departure>, admin: Admin) -> Result<Vec<Arrival>, HostFailure> {
    let is_alone = departures.len() == 1;
    let begun = if is_alone { 0 } else { admin.statistic(BEGUN).await.map_err(broken)? };
    let begin = tokio::time::Instant::now();
    let mut order: Vec<(usize, Departure)> = departures.into_iter().enumerate().collect();
    order.sort_by_key(|(_, departure)| departure.after);
    let mut under_way = JoinSet::new();
    for (before, (at, departure)) in (begun..).zip(order) {
        let Departure { after, seat, connection, outgoing, .. } = departure;
        if !is_alone {
            tokio::time::sleep_until(begin + after).await;
            let are_seen = |count| count >= before;
            admin.statistic_until(BEGUN, ARRIVING, are_seen).await.map_err(broken)?;
        }
        let exchange = connection.exchange(outgoing, admin);
        under_way.spawn(async move { (at, seat, exchange.await) });
    }
    let mut arrived = Vec::new();
    for (at, seat, outcome) in under_way.join_all().await {
        let (outcome, connection) = outcome.map_err(broken)?;
        arrived.push((at, (outcome, (seat, connection))));
    }
    arrived.sort_by_key(|(at, _)| *at);
    Ok(arrived.into_iter().map(|(_, arrival)| arrival).collect())
}
