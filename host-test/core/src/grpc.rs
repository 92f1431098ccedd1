//! gRPC as it stands on HTTP: frames, headers and trailers.
//!
//! Compression is not here: an answer of a scenario has none.

use crate::scenario::{GrpcAnswer, HeaderLine};

/// Puts a message into a body: a flag, the length, the bytes.
///
/// Source: gRPC over HTTP/2, "Length-Prefixed-Message".
pub fn frame(body: &mut Vec<u8>, message: &[u8]) {
    body.push(0);
    body.extend(u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    body.extend_from_slice(message);
}

/// The messages of a body, as far as they came.
pub fn messages(mut frames: &[u8]) -> Vec<&[u8]> {
    let mut messages = Vec::new();
    while let Some(([_, length @ ..], rest)) = frames.split_first_chunk::<5>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let (message, rest) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        messages.push(message);
        frames = rest;
    }
    messages
}

impl GrpcAnswer {
    /// The headers before the messages, without the status of HTTP.
    pub fn head(&self) -> Vec<HeaderLine> {
        let kind = (b"content-type".to_vec(), b"application/grpc".to_vec());
        std::iter::once(kind).chain(self.metadata.iter().cloned()).collect()
    }

    /// The trailers after the messages.
    pub fn tail(&self) -> Vec<HeaderLine> {
        let mut trailers = vec![(b"grpc-status".to_vec(), self.status.to_string().into_bytes())];
        if !self.message.is_empty() {
            trailers.push((b"grpc-message".to_vec(), percent_encoded(self.message.as_bytes())));
        }
        trailers.extend(self.trailers.iter().cloned());
        trailers
    }

    /// Whether all of it is sent as trailers, as servers do with an answer that fails at once.
    pub fn is_trailers_only(&self) -> bool {
        self.messages.is_empty() && self.metadata.is_empty()
    }
}

/// A text as `grpc-message` carries it.
///
/// Source: gRPC over HTTP/2, "Responses".
pub(crate) fn percent_encoded(text: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(text.len());
    for &byte in text {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            encoded.push(byte);
        } else {
            encoded.extend(format!("%{byte:02X}").bytes());
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_of_frames_is_its_messages() {
        let check = |frames: &[u8], expected: &[&[u8]]| assert_eq!(messages(frames), expected);
        check(b"", &[]);
        check(b"\0\0\0\0\0", &[b""]);
        check(b"\0\0\0\0\x02ab\0\0\0\0\x01c", &[b"ab", b"c"]);
        check(b"\0\0\0\0\x02a", &[b"a"]);
        check(b"\0\0\0", &[]);
    }

    #[test]
    fn a_framed_message_is_read_back() {
        let mut body = Vec::new();
        frame(&mut body, b"one");
        frame(&mut body, b"");
        assert_eq!(messages(&body), [&b"one"[..], b""]);
    }
}
