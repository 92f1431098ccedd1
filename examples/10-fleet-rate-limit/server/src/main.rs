//! A rate limit service for Envoy: the counters of Limitador behind the protocol RLS.
//!
//! Not here: counters that several servers share. One server has them in its memory.

mod service;

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

use crate::service::Limits;

/// How many counters are kept.
const MOST_COUNTERS: u64 = 100_000;

/// Counts for all proxies that ask.
#[derive(Parser)]
struct Arguments {
    /// The limits: a list as Limitador has it, in YAML.
    #[arg(long, value_name = "FILE")]
    limits: PathBuf,
    /// Where it listens; with port 0 the system chooses one, which is printed.
    #[arg(long, default_value = "127.0.0.1:8081")]
    listen: SocketAddr,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let Arguments { limits: file, listen } = Arguments::parse();
    let name = file.display();
    let text = fs::read_to_string(&file).with_context(|| format!("{name} cannot be read"))?;
    let limits: Vec<Limit> = serde_saphyr::from_str(&text).with_context(|| format!("{name}"))?;
    let service = RateLimitServiceServer::new(Limits::new(limits, MOST_COUNTERS));
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
