//! One end of a connection: what it does, and what it has got.
//!
//! Its socket is asked itself, and never waits: whether there is something to read is not taken from what a
//! runtime has noticed, which may be older.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use tollgate_host::proxy::{End, Side};
use tollgate_host::scenario::Act;

/// What a peer shakes hands with, and the server that it asks for.
pub(super) type Identity = (Arc<ClientConfig>, ServerName<'static>);

/// A client, or an upstream.
#[derive(Debug)]
pub(super) struct Peer {
    /// Gone once it has closed.
    stream: Option<TcpStream>,
    tls: Option<Tls>,
    has_ended: bool,
    pub(super) side: Side,
}

impl Peer {
    /// An end of a connection, which with an identity shakes hands as it is taken in.
    pub(super) fn new(stream: TcpStream, identity: Option<Identity>) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let tls = identity.map(Tls::new).transpose().map_err(io::Error::other)?;
        Ok(Self { stream: Some(stream), tls, has_ended: false, side: Side::default() })
    }

    /// How many bytes it has read, if it is with TLS.
    pub(super) fn read_of_tls(&self) -> usize {
        self.tls.as_ref().map_or(0, |tls| tls.read)
    }

    /// Why TLS cannot go on, if it cannot.
    pub(super) fn broken_tls(&self) -> Option<rustls::Error> {
        self.tls.as_ref()?.broken.clone()
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
                let _unsent = match &mut self.tls {
                    Some(tls) => tls.send(bytes, &mut stream),
                    None => stream.write_all(bytes),
                };
            }
            Act::End => {
                self.say_goodbye(&mut stream);
                let _closed = stream.shutdown(Shutdown::Write);
            }
            Act::Close => {
                self.say_goodbye(&mut stream);
                return self.leave(Ok(()));
            }
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
            let read = match &mut self.tls {
                Some(tls) => tls.read(stream, &mut bytes),
                None => stream.read(&mut bytes),
            };
            match read {
                Ok(0) => self.side.end = End::Closed,
                Ok(size) => self.side.got.extend_from_slice(bytes.get(..size).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => self.side.end = End::Reset,
            }
        }
    }

    fn say_goodbye(&mut self, stream: &mut TcpStream) {
        if let Some(tls) = &mut self.tls {
            tls.connection.send_close_notify();
            let _unsent = tls.flush(stream);
        }
    }

    fn leave(&mut self, how: io::Result<()>) -> io::Result<()> {
        if self.side.end == End::Open {
            self.side.end = End::Closed;
        }
        how
    }
}

/// The TLS of a client.
#[derive(Debug)]
struct Tls {
    connection: ClientConnection,
    read: usize,
    broken: Option<rustls::Error>,
}

impl Tls {
    fn new((config, server): Identity) -> Result<Self, rustls::Error> {
        Ok(Self { connection: ClientConnection::new(config, server)?, read: 0, broken: None })
    }

    fn send(&mut self, bytes: &[u8], stream: &mut TcpStream) -> io::Result<()> {
        self.connection.writer().write_all(bytes)?;
        self.flush(stream)
    }

    fn flush(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(stream)?;
        }
        Ok(())
    }

    /// Reads what the other side has said, and goes on with the handshake.
    fn read(&mut self, stream: &mut TcpStream, bytes: &mut [u8]) -> io::Result<usize> {
        self.flush(stream)?;
        loop {
            match self.connection.reader().read(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The end of TCP without one of TLS is an end as well.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                read => return read,
            }
            self.read += self.connection.read_tls(stream)?;
            if let Err(error) = self.connection.process_new_packets() {
                self.broken = Some(error);
                return Ok(0);
            }
            self.flush(stream)?;
        }
    }
}
