//! Refuses JSON that is nested too deep, before a parser behind the proxy runs out of stack; and tells
//! how many bytes it has read in the trailers of the response, if there are some.

use schemars::JsonSchema;
use serde::Deserialize;
use tollgate::{
    ConfigureError, Filter, LocalReply, OnRequestBody, OnResponseTrailers, Outcome, RequestBody,
    ResetStream, ResponseTrailers, Root, StatusCode,
};

/// The filter is its configuration.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Depth {
    /// How many lists and objects may lie in each other.
    most: u32,
}

impl Filter for Depth {
    const NAME: &'static str = "depth";
    type Config = Self;
    /// How many bytes the body of the request has.
    type Stream = usize;

    fn configure(config: Self, _: &Root) -> Result<Self, ConfigureError> {
        Ok(config)
    }
}

impl OnRequestBody for Depth {
    const MAX_BYTES: usize = 1024;

    fn on_request_body(&self, bytes: &mut usize, body: &mut RequestBody) -> Outcome {
        *bytes = body.len();
        if depth(&body.bytes()?) > self.most {
            let reply = LocalReply::new(StatusCode::BAD_REQUEST).with_body("nested too deep\n");
            return Err(reply.with_details("depth_exceeded"));
        }
        Ok(())
    }
}

impl OnResponseTrailers for Depth {
    fn on_response_trailers(
        &self,
        bytes: &mut usize,
        trailers: &mut ResponseTrailers,
    ) -> Result<(), ResetStream> {
        trailers.set("x-request-bytes", bytes.to_string())?;
        Ok(())
    }
}

/// How deep JSON is nested at most. Of what is none it is a number as well.
fn depth(json: &[u8]) -> u32 {
    let (mut depth, mut deepest) = (0_u32, 0);
    let (mut in_string, mut is_escaped) = (false, false);
    for byte in json {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth = depth.saturating_add(1);
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_count_unless_they_stand_in_a_string() {
        let check = |json: &str, expected| assert_eq!(depth(json.as_bytes()), expected, "{json}");
        check("", 0);
        check("7", 0);
        check("[1, [2], {}]", 2);
        check(r#"["[[[", "\"[", {}]"#, 2);
        check("]]]][[", 2);
    }
}
