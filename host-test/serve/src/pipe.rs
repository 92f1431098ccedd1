//! A body that the host gives out part by part, and hyper takes when there is room on the wire.
//!
//! The host never waits; whoever feeds it does, while more than [`MOST_WAITING`] bytes are in a pipe.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::body::{Body, Frame};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// How many bytes may wait in a pipe before its feeder waits too.
const MOST_WAITING: usize = 256 << 10;

/// What is in a pipe.
enum Item {
    Data(Bytes),
    Trailers(HeaderMap),
    End,
}

/// How full a pipe is.
#[derive(Debug, Default)]
struct Level {
    waiting: AtomicUsize,
    sank: Notify,
}

/// The end that the host fills.
#[derive(Clone)]
pub(crate) struct Inlet {
    items: UnboundedSender<Item>,
    level: Arc<Level>,
}

/// The end that hyper takes from.
pub(crate) struct Outlet {
    items: UnboundedReceiver<Item>,
    level: Arc<Level>,
    is_over: bool,
}

/// The host broke off in the midst of a body.
#[derive(Debug)]
pub(crate) struct BrokenOff;

impl fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the message broke off")
    }
}

impl std::error::Error for BrokenOff {}

/// A pipe for a body. One whose inlet is dropped before its end breaks off.
pub(crate) fn pipe() -> (Inlet, Outlet) {
    let (sender, receiver) = unbounded_channel();
    let level = Arc::new(Level::default());
    let inlet = Inlet { items: sender, level: Arc::clone(&level) };
    (inlet, Outlet { items: receiver, level, is_over: false })
}

/// A body that is over before it begins.
pub(crate) fn nothing() -> Outlet {
    let (_, mut outlet) = pipe();
    outlet.is_over = true;
    outlet
}

impl Inlet {
    pub(crate) fn data(&self, bytes: Vec<u8>) {
        self.level.waiting.fetch_add(bytes.len(), Ordering::Relaxed);
        self.put(Item::Data(bytes.into()));
    }

    pub(crate) fn trailers(&self, lines: HeaderMap) {
        self.put(Item::Trailers(lines));
    }

    pub(crate) fn end(&self) {
        self.put(Item::End);
    }

    /// Waits until there is room, or nobody takes anything any more.
    pub(crate) async fn room(&self) {
        while self.level.waiting.load(Ordering::Relaxed) > MOST_WAITING && !self.items.is_closed() {
            self.level.sank.notified().await;
        }
    }

    /// A body that nobody takes is lost, as the wire that it was for.
    fn put(&self, item: Item) {
        let _nobody = self.items.send(item);
    }
}

impl Body for Outlet {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let Poll::Ready(item) = self.items.poll_recv(context) else { return Poll::Pending };
        let frame = match item {
            Some(Item::Data(bytes)) => {
                self.level.waiting.fetch_sub(bytes.len(), Ordering::Relaxed);
                self.level.sank.notify_waiters();
                Some(Ok(Frame::data(bytes)))
            }
            Some(Item::Trailers(lines)) => {
                self.is_over = true;
                Some(Ok(Frame::trailers(lines)))
            }
            Some(Item::End) => {
                self.is_over = true;
                None
            }
            None => {
                self.is_over = true;
                Some(Err(BrokenOff))
            }
        };
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.items.close();
        self.level.sank.notify_waiters();
    }
}
