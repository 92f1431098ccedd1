//! A rate limit service for Envoy: the limits of Limitador behind the protocol RLS, counted in memory or in
//! Redis.

mod counters;
mod service;
mod store;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitServiceServer;
use limitador::limit::Limit;
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::counters::Counters;
use crate::service::Limits;
use crate::store::Store;

/// Counts for all proxies that ask.
#[derive(Parser)]
struct Arguments {
    /// The limits: a list as Limitador has it, in YAML.
    #[arg(long, value_name = "FILE")]
    limits: PathBuf,
    /// Where the counters are, as in `redis://127.0.0.1:6379`; else in the memory of this server.
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Where it listens; with port 0 the system chooses one, which is printed.
    #[arg(long, default_value = "127.0.0.1:8081")]
    listen: SocketAddr,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let Arguments { limits: file, store, listen } = Arguments::parse();
    let name = file.display();
    let text = fs::read_to_string(&file).with_context(|| format!("{name} cannot be read"))?;
    let limits: Vec<Limit> = serde_saphyr::from_str(&text).with_context(|| format!("{name}"))?;
    let counters = match store {
        None => Counters::in_memory(limits),
        Some(url) => Counters::Store(Store::new(limits, &url)?),
    };
    let service = RateLimitServiceServer::new(Limits(counters));
    let listener =
        TcpListener::bind(listen).await.with_context(|| format!("{listen} cannot be bound"))?;
    println!("listening on {}", listener.local_addr()?);
    let stopped = async {
        // Without a signal it goes on.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    Server::builder().add_service(service).serve_with_incoming_shutdown(incoming, stopped).await?;
    Ok(())
}
