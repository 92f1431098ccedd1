//! The service by itself: what it answers with the counters in memory is what it answers with a store.

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use envoy_types::pb::google::protobuf::UInt64Value;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::LIMIT;
use crate::processes::{Redis, free_port, server};

type Client = RateLimitServiceClient<Channel>;

/// Of whom a service is asked, and how many hits; whether it admits them; and of each, whether that one
/// refuses and how much is left.
type Case = (&'static [(&'static str, u64)], bool, &'static [(bool, u32)]);

async fn client(port: u16) -> Client {
    Client::connect(format!("http://127.0.0.1:{port}")).await.unwrap()
}

/// Asks about users, each with so many hits.
async fn ask(client: &mut Client, users: &[(&str, u64)]) -> RateLimitResponse {
    let descriptor = |(user, hits): &(&str, u64)| RateLimitDescriptor {
        entries: vec![Entry { key: "x-user".to_owned(), value: (*user).to_owned() }],
        hits_addend: Some(UInt64Value { value: *hits }),
        ..RateLimitDescriptor::default()
    };
    let request = RateLimitRequest {
        domain: "shop".to_owned(),
        descriptors: users.iter().map(descriptor).collect(),
        ..RateLimitRequest::default()
    };
    client.should_rate_limit(request).await.unwrap().into_inner()
}

/// Asks one request after another.
async fn check(client: &mut Client, cases: &[Case]) {
    for (users, passes, expected) in cases {
        let response = ask(client, users).await;
        let statuses = response.statuses.iter();
        let told: Vec<_> = statuses
            .map(|status| (status.code() == Code::OverLimit, status.limit_remaining))
            .collect();
        assert_eq!(
            (response.overall_code() == Code::Ok, &*told),
            (*passes, *expected),
            "{users:?}"
        );
        for status in &response.statuses {
            let ends = status.duration_until_reset.unwrap().seconds;
            assert!((50..=60).contains(&ends), "{status:?}");
        }
    }
}

#[tokio::test]
async fn memory_and_store_answer_alike() {
    let store = Redis::start("alike");
    let stores = [None].into_iter().chain(store.as_ref().map(Some));
    for store in stores {
        let port = free_port();
        let _running = server(port, store);
        let cases: &[Case] = &[
            (&[("a", 5)], true, &[(false, 15)]),
            (&[("a", 15), ("b", 1)], true, &[(false, 0), (false, 19)]),
            // Of what one refuses, nothing is charged to the others.
            (&[("b", 1), ("a", 1)], false, &[(false, 19), (true, 0)]),
            (&[("b", 1)], true, &[(false, 18)]),
            // More than there is left, and what is only asked about.
            (&[("b", 19)], false, &[(true, 18)]),
            (&[("b", 0)], true, &[(false, 18)]),
            (&[("a", 0)], false, &[(true, 0)]),
            (&[("c", 0)], true, &[(false, 20)]),
            (&[("c", 20)], true, &[(false, 0)]),
        ];
        check(&mut client(port).await, cases).await;
    }
}

#[tokio::test]
async fn servers_with_one_store_admit_the_limit_whoever_comes_together() {
    let Some(store) = Redis::start("together") else { return };
    let ports = [free_port(), free_port()];
    let _running = ports.map(|port| server(port, Some(&store)));
    let mut asked = JoinSet::new();
    for port in ports {
        let client = client(port).await;
        for _ in 0..5 * LIMIT {
            let mut client = client.clone();
            asked.spawn(async move { ask(&mut client, &[("a", 1)]).await.overall_code() });
        }
    }
    let codes = asked.join_all().await;
    assert_eq!(codes.len(), 10 * LIMIT);
    assert_eq!(codes.iter().filter(|code| **code == Code::Ok).count(), LIMIT);
}
