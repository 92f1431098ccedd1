//! What a fuzzer chooses: a module, what its host does, and where that host goes wrong.

use arbitrary::{Arbitrary, Result, Unstructured};

use crate::policy::Policy;

/// The life of a VM.
#[derive(Arbitrary, Clone, Debug)]
pub struct Case {
    /// What runs in it.
    pub module: Module,
    /// The filter and the configuration of its first root.
    pub root: RootId,
    /// How it ends.
    pub ending: Ending,
    /// After how many host calls, counted from the one before, what goes wrong.
    #[arbitrary(with = many)]
    pub faults: Vec<(u8, Fault)>,
    /// What happens, in order.
    #[arbitrary(with = many)]
    pub steps: Vec<Step>,
}

/// Up to as many as there are bytes for: where each is as likely as no further one, most lists have
/// none or one.
fn many<'a, T: Arbitrary<'a>>(bytes: &mut Unstructured<'a>) -> Result<Vec<T>> {
    let most: u8 = bytes.arbitrary()?;
    let mut all = Vec::new();
    while all.len() < usize::from(most % 64) && !bytes.is_empty() {
        all.push(bytes.arbitrary()?);
    }
    Ok(all)
}

/// Which module.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Module {
    /// All filters of the fixtures, by root id.
    Fixtures,
    /// The same: they have most to lose.
    Again,
    /// A chain: the rate limit, and a filter that uses all there is of state and metrics.
    Chain,
    /// The rate limit alone.
    RateLimit,
}

/// What a root is configured with.
#[derive(Arbitrary, Clone, Debug)]
pub struct RootId {
    /// Which filter, of modules that have several.
    pub filter: u8,
    /// The policy of the rate limit.
    pub policy: Policy,
}

/// One of what there is, whatever the number.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Nth(pub u8);

/// A side of a stream.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// From the client.
    Request,
    /// To the client.
    Response,
}

/// How a piece of a message ends.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Something follows.
    No,
    /// It was the last.
    Yes,
    /// It is the trailers, if these may come.
    Trailers,
}

/// What a host does.
#[derive(Arbitrary, Clone, Debug)]
pub enum Step {
    /// A stream begins, and its request headers come.
    Stream {
        /// The root.
        root: Nth,
        /// Whether neither body nor trailers follow.
        ended: bool,
    },
    /// What comes next of a stream, as far as its filter lets it come.
    Piece {
        /// The stream.
        stream: Nth,
        /// The side.
        side: Side,
        /// Bytes of a body.
        size: u8,
        /// What follows.
        end: End,
    },
    /// Something comes for a call.
    Answer {
        /// The call.
        call: Nth,
        /// What comes.
        what: u8,
    },
    /// A root ticks, if a period is set.
    Tick(Nth),
    /// The clock is read that many nanoseconds later.
    Later(u32),
    /// The clock is set.
    Clock(u64),
    /// A stream is over.
    Over {
        /// The stream.
        stream: Nth,
        /// Whether it is logged.
        logged: bool,
    },
    /// A root begins.
    Root(RootId),
    /// A root is configured anew.
    Anew(Nth, RootId),
    /// A root is over, with streams of it or without.
    RootOver(Nth),
    /// What no proxy does: any callback at any time.
    Wild {
        /// Which callback.
        callback: u8,
        /// The context.
        context: Id,
        /// An argument.
        first: Id,
        /// An argument.
        second: Size,
        /// An argument.
        flag: bool,
    },
}

/// An id or a token that there may be.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Id(u8);

impl Id {
    /// The number: mostly a small one.
    pub fn number(self) -> u32 {
        match self.0 {
            small @ ..250 => (small % 16).into(),
            large => u32::MAX - u32::from(255 - large),
        }
    }
}

/// A size, also one that nothing has.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Size {
    /// A size as they come.
    Small(u8),
    /// The largest of wasm32.
    Word,
    /// One more than any allocation.
    Allocation,
    /// The largest.
    Most,
}

impl Size {
    /// The number.
    pub fn bytes(self) -> usize {
        match self {
            Self::Small(size) => size.into(),
            Self::Word => usize::try_from(u32::MAX).unwrap_or(usize::MAX),
            Self::Allocation => usize::MAX / 2 + 1,
            Self::Most => usize::MAX,
        }
    }
}

/// How a host goes wrong when it is called.
#[derive(Arbitrary, Clone, Debug)]
pub enum Fault {
    /// It does not do what it is asked, and returns a status.
    Refuses(Id),
    /// It gives other bytes.
    Gives(Vec<u8>),
    /// It gives as many of the bytes.
    Cuts(u8),
    /// It gives the bytes with this one changed.
    Spoils(u8, u8),
    /// It announces bytes and gives none.
    Announces(Size),
    /// It gives another number, as an id, a token, a status or a time.
    Counts(Id),
    /// It gives another number, which may be any.
    CountsLarge(u64),
    /// It calls back before it answers. This one a proxy may.
    CallsBack(Step),
    /// The same.
    CallsBackAgain(Step),
}

/// How a VM ends.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All that is under way comes to its end.
    InPeace,
    /// All streams are cut off, then the roots.
    CutOff,
    /// The roots go first.
    RootsFirst,
}
