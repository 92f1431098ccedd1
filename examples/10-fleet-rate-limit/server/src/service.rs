//! The method of RLS.
//!
//! A limit sees the entries of a descriptor as `descriptors[0]`, as in Limitador's own server, and each
//! descriptor by itself, so that there is a status for each.

use std::collections::HashMap;
use std::time::Duration;

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::rate_limit::Unit;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::{
    Code, DescriptorStatus, RateLimit,
};
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitService;
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use envoy_types::pb::google::protobuf as pb;
use limitador::CheckResult;
use limitador::counter::Counter;
use limitador::limit::Context;
use tonic::{Request, Response, Status};

use crate::counters::{Asked, Counters};

/// The service.
pub(crate) struct Limits(pub(crate) Counters);

#[tonic::async_trait]
impl RateLimitService for Limits {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let RateLimitRequest { domain, descriptors, hits_addend } = request.into_inner();
        if domain.is_empty() || descriptors.is_empty() {
            return Err(Status::invalid_argument("name a domain and at least one descriptor"));
        }
        let asked: Vec<Asked> =
            descriptors.into_iter().map(|descriptor| Asked::of(descriptor, hits_addend)).collect();
        let decided = self.0.decide(&domain.into(), &asked).await?;
        let is_over = decided.iter().any(|result| result.limited);
        Ok(Response::new(RateLimitResponse {
            overall_code: code(is_over).into(),
            statuses: decided.iter().map(status).collect(),
            ..RateLimitResponse::default()
        }))
    }
}

impl Asked {
    fn of(descriptor: RateLimitDescriptor, hits_of_request: u32) -> Self {
        let entries: HashMap<String, String> =
            descriptor.entries.into_iter().map(|entry| (entry.key, entry.value)).collect();
        let mut context = Context::default();
        context.list_binding("descriptors".to_owned(), vec![entries]);
        let own = descriptor.hits_addend.map(|hits| hits.value);
        Self { context, hits: own.unwrap_or_else(|| hits_of_request.max(1).into()) }
    }
}

fn code(is_over: bool) -> Code {
    if is_over { Code::OverLimit } else { Code::Ok }
}

/// What is said of a descriptor: of its limits the nearest, and of one without limits nothing.
fn status(result: &CheckResult) -> DescriptorStatus {
    let nearest = result.counters.iter().min_by_key(|counter| counter.remaining());
    DescriptorStatus {
        code: code(result.limited).into(),
        current_limit: nearest.map(|counter| RateLimit {
            name: counter.limit().name().unwrap_or_default().to_owned(),
            requests_per_unit: u32::try_from(counter.max_value()).unwrap_or(u32::MAX),
            unit: unit(counter.window()).into(),
        }),
        limit_remaining: nearest
            .and_then(Counter::remaining)
            .map_or(u32::MAX, |left| u32::try_from(left).unwrap_or(u32::MAX)),
        duration_until_reset: nearest.and_then(Counter::expires_in).map(until_reset),
        ..DescriptorStatus::default()
    }
}

fn until_reset(left: Duration) -> pb::Duration {
    let seconds = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
    pb::Duration { seconds, nanos: left.subsec_nanos().try_into().unwrap_or_default() }
}

/// The protocol has no other windows.
fn unit(window: Duration) -> Unit {
    match window.as_secs() {
        1 => Unit::Second,
        60 => Unit::Minute,
        3_600 => Unit::Hour,
        86_400 => Unit::Day,
        604_800 => Unit::Week,
        _ => Unit::Unknown,
    }
}
