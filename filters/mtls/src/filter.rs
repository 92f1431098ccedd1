//! The filter of requests.

use tollgate::metrics::{Labels, StatsTags};
use tollgate::{
    ConfigureError, EditError, Filter, HeaderName, Headers, LocalReply, OnRequestHeaders, Outcome,
    RequestHeaders, Root, StatusCode,
};

use crate::guard::{ByDecision, ByFlip, ByOutcome, ByRule, Denial, Guard, Verdict};
use crate::identity::Caller;
use crate::policy::Policy;

/// `PERMISSION_DENIED`.
const GRPC_PERMISSION_DENIED: u32 = 7;

/// The mtls filter of one worker.
#[derive(Debug)]
pub struct Mtls(Guard);

impl Filter for Mtls {
    const NAME: &'static str = "mtls";
    type Config = Policy;
    type Stream = ();
    const STATS_TAGS: StatsTags =
        StatsTags::of(&[ByDecision::NAMES, ByFlip::NAMES, ByRule::NAMES, ByOutcome::NAMES]);

    fn configure(policy: Policy, root: &Root) -> Result<Self, ConfigureError> {
        Ok(Self(Guard::new(policy, root)))
    }
}

impl OnRequestHeaders for Mtls {
    fn on_request_headers(&self, (): &mut (), request: &mut RequestHeaders) -> Outcome {
        let headers = request.take()?;
        match self.0.judge(Some(&headers)) {
            Verdict::Denied(denial) => Err(self.refusal(&denial)),
            Verdict::Undecided => Err(undecided()),
            Verdict::Passes(caller) => {
                self.forward(request, &headers, caller.as_ref()).map_err(|error| {
                    self.0.unchanged(&error);
                    undecided()
                })
            }
        }
    }
}

impl Mtls {
    /// Tells the upstream who calls, and takes off what the client says of it, whatever the mode.
    fn forward(
        &self,
        request: &mut RequestHeaders,
        headers: &Headers,
        caller: Option<&Caller>,
    ) -> Result<(), EditError> {
        let Some(own) = &self.0.policy.forward else {
            return Ok(());
        };
        let mut removed: Vec<&[u8]> = Vec::new();
        for (name, _) in headers {
            if !alike(own, name) || removed.contains(&name) {
                continue;
            }
            removed.push(name);
            if let Ok(name) = str::from_utf8(name) {
                request.remove(name)?;
            }
        }
        match caller.and_then(|caller| caller.id.as_ref()) {
            Some(id) => request.set(own.as_str(), id.as_str()),
            None => Ok(()),
        }
    }

    fn refusal(&self, Denial(why): &Denial) -> LocalReply {
        let answer = &self.0.policy.answer;
        let details = format!("tollgate_mtls_denied{{{why}}}");
        let body = if answer.explains { format!("denied: {why}\n") } else { answer.body.clone() };
        if answer.status == 404 {
            // As a server that has nothing here: gRPC clients are told UNIMPLEMENTED.
            let status = StatusCode::new(404).unwrap_or(StatusCode::FORBIDDEN);
            return LocalReply::new(status).with_body(body).with_details(details);
        }
        LocalReply::new(StatusCode::FORBIDDEN)
            .with_body(body)
            .with_details(details)
            .with_grpc_status(GRPC_PERMISSION_DENIED)
    }
}

/// Whether a line has this name, or one that an upstream could take for it.
fn alike(own: &HeaderName, name: &[u8]) -> bool {
    let dashed = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    own.as_str().len() == name.len()
        && own.as_str().bytes().map(|byte| dashed(&byte)).eq(name.iter().map(dashed))
}

fn undecided() -> LocalReply {
    LocalReply::new(StatusCode::SERVICE_UNAVAILABLE).with_details("tollgate_mtls_undecided")
}
