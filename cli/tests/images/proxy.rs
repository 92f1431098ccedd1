//! A proxy in front of a registry that does what goes wrong between here and there: a connection for each
//! request, the whole of it read, and then whatever the test says.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A request or an answer: the lines before the body, and the body.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Message {
    pub(crate) fn answer(status: &str, headers: &str, body: &str) -> Self {
        Self { head: format!("HTTP/1.1 {status}\r\n{headers}"), body: body.into() }
    }

    /// Method and path.
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    pub(crate) fn is(&self, method: &str, part: &str) -> bool {
        self.line().starts_with(method) && self.line().contains(part)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    fn read(from: &mut impl Read, is_answer_to_head: bool) -> io::Result<Self> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            from.read_exact(&mut byte)?;
            head.extend(byte);
        }
        let head = String::from_utf8(head).unwrap().trim_end().to_owned() + "\r\n";
        let mut message = Self { head, body: Vec::new() };
        let length = message.header("content-length").and_then(|value| value.parse().ok());
        message.body = vec![0; length.filter(|_| !is_answer_to_head).unwrap_or(0)];
        from.read_exact(&mut message.body)?;
        Ok(message)
    }

    /// With the length that the body has; an answer to HEAD keeps its own.
    fn write(&self, to: &mut impl Write, is_answer_to_head: bool) -> io::Result<()> {
        for line in self.head.lines() {
            let name = line.split(':').next().unwrap().to_lowercase();
            if name != "connection" && (name != "content-length" || is_answer_to_head) {
                write!(to, "{line}\r\n")?;
            }
        }
        if !is_answer_to_head {
            write!(to, "content-length: {}\r\n", self.body.len())?;
        }
        write!(to, "connection: close\r\n\r\n")?;
        to.write_all(&self.body)?;
        to.flush()
    }
}

/// What becomes of a request: an answer, or none, and the connection is closed.
pub(crate) type Rule =
    dyn Fn(Message, &dyn Fn(&Message) -> Message) -> Option<Message> + Send + Sync;

pub(crate) struct Proxy {
    port: u16,
    is_done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// A proxy in front of the registry at `upstream`; the rule is given each request, and the way on.
    pub(crate) fn start(
        upstream: &str,
        rule: impl Fn(Message, &dyn Fn(&Message) -> Message) -> Option<Message> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (is_done, upstream) = (Arc::new(AtomicBool::new(false)), upstream.to_owned());
        let thread = std::thread::spawn({
            let is_done = Arc::clone(&is_done);
            let rule: Box<Rule> = Box::new(rule);
            move || {
                for client in listener.incoming() {
                    if is_done.load(Ordering::SeqCst) {
                        return;
                    }
                    // A client that leaves early is none of ours.
                    let _left = serve(client.unwrap(), &upstream, &rule);
                }
            }
        });
        Self { port, is_done, thread: Some(thread) }
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.is_done.store(true, Ordering::SeqCst);
        let _woken = TcpStream::connect(("127.0.0.1", self.port));
        let _ended = self.thread.take().unwrap().join();
    }
}

fn serve(mut client: TcpStream, upstream: &str, rule: &Rule) -> io::Result<()> {
    client.set_read_timeout(Some(Duration::from_secs(20)))?;
    let request = Message::read(&mut client, false)?;
    let is_head = request.is("HEAD", "");
    let on = |request: &Message| exchange(upstream, request).unwrap();
    match rule(request, &on) {
        Some(answer) => answer.write(&mut client, is_head),
        None => Ok(()),
    }
}

/// The answer of a server to one request.
pub(crate) fn exchange(upstream: &str, request: &Message) -> io::Result<Message> {
    let mut server = TcpStream::connect(upstream)?;
    server.set_read_timeout(Some(Duration::from_secs(20)))?;
    request.write(&mut server, false)?;
    Message::read(&mut server, request.is("HEAD", ""))
}
