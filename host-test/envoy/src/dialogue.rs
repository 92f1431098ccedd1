//! What is heard of a request, and an answer over gRPC to it, message by message.

use std::sync::{Arc, Mutex};

use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Incoming;
use tokio::sync::watch;
use tollgate_host::grpc;
use tollgate_host::proxy::Received;
use tollgate_host::scenario::GrpcAnswer;

use crate::cluster::{Held, lock};
use crate::message::{self, Body};
use crate::upstream::Broken;

/// What has come of a request's body.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Heard {
    messages: usize,
    ended: bool,
}

/// Reads a request's body into `received`, and tells `hear` how far it has come.
pub(crate) async fn read(
    mut body: Incoming,
    received: Arc<Mutex<Option<Received>>>,
    hear: watch::Sender<Heard>,
) {
    while let Some(Ok(frame)) = body.frame().await {
        let mut received = lock(&received);
        let Some(received) = received.as_mut() else { return };
        if let Some(bytes) = frame.data_ref() {
            received.body.extend_from_slice(bytes);
            let messages = grpc::messages(&received.body).len();
            hear.send_modify(|heard| heard.messages = messages);
        }
        if let Some(trailers) = frame.trailers_ref() {
            received.trailers = message::lines(trailers);
        }
    }
    hear.send_modify(|heard| heard.ended = true);
}

/// Waits for the end of a request.
pub(crate) async fn ended(heard: &mut watch::Receiver<Heard>) {
    // A request that broke off has ended too.
    let _gone = heard.wait_for(|heard| heard.ended).await;
}

/// Answers over gRPC what is heard; `held` tells while the answer is not at its end.
pub(crate) async fn answer_grpc(
    answer: GrpcAnswer,
    mut heard: watch::Receiver<Heard>,
    held: Held,
) -> Result<Response<Body>, Broken> {
    let fails = answer.status != 0;
    let tail = message::headers(&answer.tail()).map_err(|_| Broken)?;
    let mut head = message::headers(&answer.head()).map_err(|_| Broken)?;
    if answer.is_trailers_only() {
        if !fails {
            ended(&mut heard).await;
        }
        drop(held);
        head.extend(tail);
        return Ok(message::only_headers(head));
    }
    let (mut sender, response) = message::open_response(head);
    let _task = tokio::spawn(async move {
        let mut sent = 0;
        let mut next = answer.messages.iter();
        loop {
            let has_all = fails && next.len() == 0;
            let news = |heard: &Heard| heard.ended || has_all || heard.messages > sent;
            let Ok(now) = heard.wait_for(news).await.map(|now| *now) else { break };
            let (end, upto) = (now.ended, now.messages);
            while end || sent < upto {
                sent += 1;
                let Some(message) = next.next() else { break };
                let mut frame = Vec::new();
                grpc::frame(&mut frame, message);
                if sender.send_data(frame.into()).await.is_err() {
                    return;
                }
            }
            sent = sent.max(upto);
            if end || (fails && next.len() == 0) {
                break;
            }
        }
        let _unwanted = sender.send_trailers(tail).await;
        drop(held);
    });
    Ok(response)
}
