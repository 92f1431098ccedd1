//! gRPC: which requests are, and their messages, counted as they pass.
//!
//! Not here: what messages are. Of a body only the first five bytes of each message are read, and of the
//! last one of gRPC-Web what it says of the status.
//!
//! Source: gRPC over HTTP/2, "Length-Prefixed-Message"; gRPC-Web, "Message framing".

use tollgate::{BodyView, Buffered, HostError};

/// How a request speaks gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Over HTTP/2, with its status in trailers.
    Grpc,
    /// As browsers do, with its trailers in the body.
    Web,
    /// The same in base64, of which nothing is read.
    WebText,
}

impl Dialect {
    /// The dialect of a `content-type`; `None` when it is not gRPC.
    ///
    /// Source: Envoy 1.40, `Grpc::Common::hasGrpcContentType`; gRPC-Web, "Content-Type".
    pub fn of(content_type: &[u8]) -> Option<Self> {
        let rest = content_type.strip_prefix(b"application/grpc")?;
        let ends = |rest: &[u8]| matches!(rest, [] | [b'+' | b';' | b' ', ..]);
        match rest {
            rest if ends(rest) => Some(Self::Grpc),
            rest if rest.strip_prefix(b"-web-text").is_some_and(ends) => Some(Self::WebText),
            rest if rest.strip_prefix(b"-web").is_some_and(ends) => Some(Self::Web),
            _ => None,
        }
    }
}

/// The length of what stands before a message: a byte of flags, and the length.
const PREFIX: usize = 5;
/// The flag of a message of gRPC-Web that is trailers.
const TRAILERS: u8 = 0x80;
/// How much of trailers is read.
const MOST_TRAILERS: usize = 1_024;

/// Counts the messages of one body, however it is cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Messages {
    /// Those that have begun.
    count: u64,
    /// What there is of a prefix that is not whole.
    prefix: Vec<u8>,
    /// What is left of the message.
    left: u64,
    /// What there is of trailers, while they come.
    trailers: Option<Vec<u8>>,
}

impl Messages {
    /// How many have begun.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Takes a chunk.
    ///
    /// # Errors
    ///
    /// [`HostError`] when the host refuses to show a part of it.
    pub fn take(&mut self, chunk: &impl Chunk) -> Result<(), HostError> {
        let mut at = 0;
        while at < chunk.len() {
            let there = chunk.len().saturating_sub(at);
            if self.left > 0 {
                let passed = usize::try_from(self.left).map_or(there, |left| left.min(there));
                self.keep_trailers(chunk, at, passed)?;
                self.left = self.left.saturating_sub(passed.try_into().unwrap_or(u64::MAX));
                at = at.saturating_add(passed);
                continue;
            }
            let wanted = PREFIX.saturating_sub(self.prefix.len()).min(there);
            self.prefix.extend(chunk.part(at, wanted)?);
            at = at.saturating_add(wanted);
            if let [flags, length @ ..] = self.prefix.as_slice()
                && let Ok(length) = <[u8; 4]>::try_from(length)
            {
                self.left = u32::from_be_bytes(length).into();
                if flags & TRAILERS == 0 {
                    self.count = self.count.saturating_add(1);
                    self.trailers = None;
                } else {
                    self.trailers = Some(Vec::new());
                }
                self.prefix.clear();
            }
        }
        Ok(())
    }

    fn keep_trailers(
        &mut self,
        chunk: &impl Chunk,
        at: usize,
        passed: usize,
    ) -> Result<(), HostError> {
        if let Some(trailers) = &mut self.trailers {
            let room = MOST_TRAILERS.saturating_sub(trailers.len());
            trailers.extend(chunk.part(at, passed.min(room))?);
        }
        Ok(())
    }

    /// The status that the trailers in the body say; `None` when there are none, or when it is not one.
    pub fn status(&self) -> Option<u32> {
        let lines = self.trailers.as_deref()?.split(|byte| *byte == b'\n');
        let mut named = lines.filter_map(|line| {
            let (name, value) = line.split_at_checked(b"grpc-status:".len())?;
            name.eq_ignore_ascii_case(b"grpc-status:").then_some(value)
        });
        str::from_utf8(named.next()?).ok()?.trim().parse().ok().filter(|status| *status <= 16)
    }
}

/// A part of a body.
pub trait Chunk {
    /// How many bytes it has.
    fn len(&self) -> usize;

    /// Whether it has none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `count` bytes from `at` on.
    ///
    /// # Errors
    ///
    /// [`HostError`] when the host refuses.
    fn part(&self, at: usize, count: usize) -> Result<Vec<u8>, HostError>;
}

impl<P: Buffered> Chunk for BodyView<P> {
    fn len(&self) -> usize {
        Self::len(self)
    }

    fn part(&self, at: usize, count: usize) -> Result<Vec<u8>, HostError> {
        self.read(at..at.saturating_add(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Chunk for &[u8] {
        fn len(&self) -> usize {
            <[u8]>::len(self)
        }

        fn part(&self, at: usize, count: usize) -> Result<Vec<u8>, HostError> {
            Ok(self[at..at + count].to_vec())
        }
    }

    fn counted(chunks: &[&[u8]]) -> Messages {
        let mut messages = Messages::default();
        for chunk in chunks {
            messages.take(chunk).unwrap();
        }
        messages
    }

    fn check(content_type: &str, expected: Option<Dialect>) {
        assert_eq!(Dialect::of(content_type.as_bytes()), expected, "{content_type}");
    }

    #[test]
    fn grpc_is_told_by_its_content_type() {
        check("application/grpc", Some(Dialect::Grpc));
        check("application/grpc+proto", Some(Dialect::Grpc));
        check("application/grpc-web", Some(Dialect::Web));
        check("application/grpc-web+proto", Some(Dialect::Web));
        check("application/grpc-web-text", Some(Dialect::WebText));
        check("application/grpcx", None);
        check("application/json", None);
    }

    #[test]
    fn trailers_in_the_body_are_no_message_and_say_the_status() {
        let body = b"\0\0\0\0\x01a\x80\0\0\0\x12grpc-status: 7\r\nx:";
        assert_eq!((counted(&[body]).count(), counted(&[body]).status()), (1, Some(7)));
        let bad = b"\x80\0\0\0\x0fgrpc-status: 99";
        assert_eq!(counted(&[bad]).status(), None);
    }

    proptest! {
        #[test]
        fn however_a_body_is_cut_it_has_as_many_messages(
            sizes in proptest::collection::vec(0_u8..40, 0..8),
            cuts in proptest::collection::vec(0_usize..400, 0..8),
        ) {
            let mut body = Vec::new();
            for size in &sizes {
                body.extend([0, 0, 0, 0, *size]);
                body.extend(vec![b'x'; usize::from(*size)]);
            }
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| (*cut).min(body.len())).collect();
            cuts.sort_unstable();
            let (mut chunks, mut from) = (Vec::new(), 0);
            for cut in cuts {
                chunks.push(&body[from..cut]);
                from = cut;
            }
            chunks.push(&body[from..]);
            prop_assert_eq!(counted(&chunks).count(), sizes.len() as u64);
        }
    }
}
