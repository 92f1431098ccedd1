//! One end of a connection: what it does, and what it has got.
//!
//! Its socket is asked itself, and never waits: whether there is something to read is not taken from what a
//! runtime has noticed, which may be older.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};

use tollgate_host::proxy::{End, Side};
use tollgate_host::scenario::Act;

/// A client, or an upstream.
#[derive(Debug)]
pub(super) struct Peer {
    /// Gone once it has closed.
    stream: Option<TcpStream>,
    has_ended: bool,
    pub(super) side: Side,
}

impl Peer {
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream: Some(stream), has_ended: false, side: Side::default() })
    }

    /// Whether it sends no more.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Does something. What fails because Envoy has closed the connection is seen when it is read.
    ///
    /// # Errors
    ///
    /// There is none on Linux but within a runtime that is shut down.
    pub(super) fn act(&mut self, act: &Act) -> io::Result<()> {
        let Some(mut stream) = self.stream.take() else { return Ok(()) };
        self.has_ended |= !matches!(act, Act::Send(_));
        match act {
            Act::Send(bytes) => {
                let _unsent = stream.write_all(bytes);
            }
            Act::End => {
                let _closed = stream.shutdown(Shutdown::Write);
            }
            Act::Close => return self.leave(Ok(())),
            Act::Reset => {
                let stream = tokio::net::TcpStream::from_std(stream)?;
                let lingers_no_more = stream.set_zero_linger();
                drop(stream);
                return self.leave(lingers_no_more);
            }
        }
        self.stream = Some(stream);
        Ok(())
    }

    /// Takes in what has come.
    pub(super) fn take_in(&mut self) {
        let mut bytes = [0; 4096];
        while let (Some(stream), End::Open) = (&mut self.stream, self.side.end) {
            match stream.read(&mut bytes) {
                Ok(0) => self.side.end = End::Closed,
                Ok(size) => self.side.got.extend_from_slice(bytes.get(..size).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => self.side.end = End::Reset,
            }
        }
    }

    fn leave(&mut self, how: io::Result<()>) -> io::Result<()> {
        if self.side.end == End::Open {
            self.side.end = End::Closed;
        }
        how
    }
}
