//! What a scenario is run over besides as it is written: what a filter has to treat alike.
//!
//! A variation changes all messages of one side in the same way, so that how many there are depends on
//! the length of bodies alone, and not on the number of steps.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer};

use super::request::{Ending, Pace, Pause};
use super::written::WordOr;
use super::{
    Answer, Budget, HeaderLine, HostName, Meets, PlannedCallout, Request, RequestStep, Scenario,
    Step, Upstream,
};
use crate::chance::Numbers;

/// The trailer that is added where there is none.
pub const ADDED_TRAILER: &[u8] = b"x-tollgate-vary";

/// The longest body that is split at each of its bytes.
const SHORT: usize = 33;

/// Of a longer one, at so many bytes from its begin and from its end, and at so many places between.
const AT_EACH_END: usize = 8;
const BETWEEN: usize = 16;

/// The most places at which bodies of different lengths are split once.
const MOST_SPLITS: usize = 64;

/// The most chunks of a body.
const MOST_CHUNKS: usize = 1024;

/// How many random chunkings there are unless it is said, and the most.
const RANDOM: usize = 4;
const MOST_RANDOM: usize = 64;

/// The most places that can be declared.
const MOST_DECLARED: usize = 16;

/// How much longer a client waits than an answer to a callout takes; on Envoy time is real.
const MARGIN: Duration = Duration::from_millis(100);

/// What is varied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vary {
    /// What a scenario is run over.
    pub over: BTreeSet<Over>,
    /// Places at which bodies are split, in bytes, besides those that are chosen anyway.
    pub at: BTreeSet<usize>,
    /// How many random chunkings of bodies there are.
    pub random: usize,
}

/// What a scenario can be run over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Over {
    /// The chunks in which bodies come.
    Chunks,
    /// Whether a body ends with its last chunk or with an empty one.
    End,
    /// Whether trailers follow a body.
    Trailers,
    /// Whether the answers to callouts come before, amid or after the chunks of a body.
    Callouts,
}

/// One way in which a scenario differs from what is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variation {
    /// Bodies come in other chunks, or end otherwise.
    Body {
        /// Whose bodies.
        side: Side,
        /// The chunks.
        chunks: Chunks,
        /// The end.
        end: End,
    },
    /// The answers to callouts come before chunks of bodies.
    Callouts {
        /// Whose bodies.
        side: Side,
        /// Before which chunks.
        moment: Moment,
    },
}

/// Who sends a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Request,
    /// The upstream.
    Response,
}

/// The chunks of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunks {
    /// Those that are written.
    AsWritten,
    /// One.
    Whole,
    /// Split at these places, as far as the body reaches.
    At(Vec<usize>),
    /// A byte each; of a long body as many as there may be.
    Single,
    /// Drawn, by the number of the draw.
    Random(usize),
}

/// The end of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As written.
    AsWritten,
    /// With the last chunk.
    WithLastChunk,
    /// By trailers.
    Trailers,
}

/// When the answers to callouts come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before the first chunk.
    Before,
    /// Between two.
    Amid,
}

impl Scenario {
    /// How it is varied on a host, besides as it is written: on Envoy, whose time is real, in few of all
    /// ways. One that is named is the only one.
    pub fn variations(&self, host: HostName) -> Vec<Variation> {
        let all = self.all_variations();
        match (&self.variant, host) {
            (Some(name), _) => all.into_iter().filter(|one| one.to_string() == *name).collect(),
            (None, HostName::Envoy) => {
                all.into_iter().filter(|one| one.is_of_the_few(self)).collect()
            }
            (None, HostName::Wasmtime | HostName::Native) => all,
        }
    }

    /// The seeds that it is run under on a host: on Envoy, where they decide little, only the first.
    pub fn seeds_on(&self, host: HostName) -> Vec<u64> {
        let many = match host {
            HostName::Wasmtime | HostName::Native => self.seeds,
            HostName::Envoy => 1,
        };
        (0..many).map(|further| self.seed.wrapping_add(further)).collect()
    }

    /// How often it is run on a host.
    pub fn runs_on(&self, host: HostName) -> usize {
        self.seeds_on(host).len() * (self.variations(host).len() + 1)
    }

    /// Has it varied in this way only, and says whether it can be.
    pub fn vary_as(&mut self, variant: &str) -> bool {
        self.variant = Some(variant.to_owned());
        self.all_variations().iter().any(|one| one.to_string() == variant)
    }

    /// How it is varied, with what HTTP/1.1 cannot carry. What would be the same stands once.
    pub fn all_variations(&self) -> Vec<Variation> {
        let Some(vary) = &self.vary else { return Vec::new() };
        let sides = [Side::Request, Side::Response];
        let of_bodies =
            sides.into_iter().flat_map(|side| vary.of_bodies(side, &self.lengths(side)));
        let moments = sides.into_iter().flat_map(|side| {
            [Moment::Before, Moment::Amid].map(|moment| Variation::Callouts { side, moment })
        });
        let moments = moments.filter(|_| vary.over.contains(&Over::Callouts));
        let mut seen = BTreeSet::from([self.shape()]);
        of_bodies.chain(moments).filter(|one| seen.insert(one.apply(self).shape())).collect()
    }

    /// The lengths of the bodies of a side.
    fn lengths(&self, side: Side) -> BTreeSet<usize> {
        let bodies = self.steps.iter().flat_map(Step::requests).filter_map(|step| body(step, side));
        bodies.map(|chunks| chunks.iter().map(Vec::len).sum()).collect()
    }

    /// All that a variation changes.
    fn shape(&self) -> Vec<(Vec<usize>, usize, Pace)> {
        let of = |chunks: &[Vec<u8>], trailers: &[HeaderLine], pace: Pace| {
            (chunks.iter().map(Vec::len).collect(), trailers.len(), pace)
        };
        let steps = self.steps.iter().flat_map(Step::requests);
        let both = steps.flat_map(|RequestStep { request, upstream, .. }| {
            let answer = match upstream {
                Upstream::Answer(answer) => of(&answer.body, &answer.trailers, answer.pace),
                Upstream::Reset => of(&[], &[], Pace::default()),
            };
            [of(&request.body, &request.trailers, request.pace), answer]
        });
        both.collect()
    }
}

impl Vary {
    fn of_bodies(&self, side: Side, lengths: &BTreeSet<usize>) -> Vec<Variation> {
        let with = |over, end| self.over.contains(&over).then_some(end);
        let ends = [
            Some(End::AsWritten),
            with(Over::End, End::WithLastChunk),
            with(Over::Trailers, End::Trailers),
        ];
        let of = |chunks: Chunks| {
            let ends = ends.into_iter().flatten();
            ends.map(move |end| Variation::Body { side, chunks: chunks.clone(), end })
        };
        self.chunks(lengths).into_iter().flat_map(of).collect()
    }

    fn chunks(&self, lengths: &BTreeSet<usize>) -> Vec<Chunks> {
        if !self.over.contains(&Over::Chunks) {
            return vec![Chunks::AsWritten];
        }
        let mut chunks = vec![Chunks::AsWritten, Chunks::Whole];
        let mut places = splits(lengths);
        places.extend(&self.at);
        chunks.extend(places.into_iter().map(|at| Chunks::At(vec![at])));
        if self.at.len() > 1 {
            chunks.push(Chunks::At(self.at.iter().copied().collect()));
        }
        chunks.push(Chunks::Single);
        chunks.extend((1..=self.random).map(Chunks::Random));
        chunks
    }
}

/// The places at which bodies are split once.
fn splits(lengths: &BTreeSet<usize>) -> BTreeSet<usize> {
    let mut places = BTreeSet::new();
    for &length in lengths {
        if length <= SHORT {
            places.extend(1..length);
        } else {
            places.extend(1..=AT_EACH_END);
            places.extend(length - AT_EACH_END..length);
            places.extend((1..=BETWEEN).map(|part| length / (BETWEEN + 1) * part));
        }
    }
    let thin = places.len().div_ceil(MOST_SPLITS).max(1);
    places.into_iter().step_by(thin).collect()
}

impl Variation {
    /// The scenario with this difference. Budgets are for what is written.
    pub fn apply(&self, scenario: &Scenario) -> Scenario {
        let mut varied = Scenario { vary: None, variant: None, ..scenario.clone() };
        for step in &mut varied.steps {
            let wait = step.callouts().iter().map(delay).max();
            step.expectations_mut().for_each(|expect| expect.budget = Budget::default());
            step.requests_mut().for_each(|step| self.change(step, wait));
        }
        varied
    }

    fn change(&self, step: &mut RequestStep, wait: Option<Duration>) {
        match self {
            Self::Body { side, chunks, end } => {
                if let Some(mut message) = Message::of(step, *side) {
                    message.come_in(chunks);
                    message.end(*end);
                }
            }
            Self::Callouts { side, moment } => {
                // A client that leaves would leave while it waits.
                let wait = wait.filter(|_| step.request.disconnect.is_none());
                if let (Some(wait), Some(mut message)) = (wait, Message::of(step, *side)) {
                    message.wait(*moment, wait.saturating_add(MARGIN));
                }
            }
        }
    }

    /// Whether it is one of the few that are played on Envoy.
    fn is_of_the_few(&self, scenario: &Scenario) -> bool {
        match self {
            Self::Body { end: End::WithLastChunk, .. }
            | Self::Body { chunks: Chunks::Single | Chunks::Random(_), .. } => false,
            Self::Callouts { .. }
            | Self::Body { chunks: Chunks::AsWritten | Chunks::Whole, .. } => true,
            Self::Body { chunks: Chunks::At(places), side, .. } => {
                let middle = scenario.lengths(*side).last().map(|length| length.div_ceil(2));
                middle.is_some_and(|middle| *places == [middle])
            }
        }
    }
}

/// How long an answer to a callout takes.
fn delay(callout: &PlannedCallout) -> Duration {
    match &callout.meets {
        Meets::Http(answer) | Meets::Reset(Some(answer)) => answer.delay,
        Meets::Grpc(answer) => answer.delay,
        Meets::Reset(None) | Meets::Never | Meets::Refused => Duration::ZERO,
    }
}

/// What is sent as a body of one side, if there is any.
fn body(step: &RequestStep, side: Side) -> Option<&[Vec<u8>]> {
    let body = match (side, &step.upstream) {
        (Side::Request, _) => &step.request.body,
        (Side::Response, Upstream::Answer(answer)) => {
            let is_bare = step.request.method == "HEAD" || matches!(answer.status, 204 | 304);
            if is_bare {
                return None;
            }
            &answer.body
        }
        (Side::Response, Upstream::Reset) => return None,
    };
    body.iter().any(|chunk| !chunk.is_empty()).then_some(body)
}

/// A message with a body.
struct Message<'a> {
    headers: &'a [HeaderLine],
    body: &'a mut Vec<Vec<u8>>,
    trailers: &'a mut Vec<HeaderLine>,
    pace: &'a mut Pace,
    is_unfinished: bool,
}

impl<'a> Message<'a> {
    fn of(step: &'a mut RequestStep, side: Side) -> Option<Self> {
        body(step, side)?;
        match (side, &mut step.upstream) {
            (Side::Request, _) => {
                let Request { headers, body, trailers, unfinished, pace, .. } = &mut step.request;
                Some(Self { headers, body, trailers, pace, is_unfinished: *unfinished })
            }
            (Side::Response, Upstream::Answer(answer)) => {
                let Answer { headers, body, trailers, unfinished, pace, .. } = answer;
                Some(Self { headers, body, trailers, pace, is_unfinished: *unfinished })
            }
            (Side::Response, Upstream::Reset) => None,
        }
    }

    fn come_in(&mut self, chunks: &Chunks) {
        let whole = self.body.concat();
        let places = match chunks {
            Chunks::AsWritten => return,
            Chunks::Whole => Vec::new(),
            Chunks::At(places) => places.clone(),
            Chunks::Single => {
                let chunks = whole.len().min(MOST_CHUNKS);
                (1..chunks).map(|chunk| whole.len() * chunk / chunks).collect()
            }
            Chunks::Random(number) => random(*number, whole.len()),
        };
        *self.body = split(&whole, &places);
    }

    fn end(&mut self, end: End) {
        let is_open = self.trailers.is_empty() && !self.is_unfinished;
        let has_length = self.headers.iter().any(|(name, _)| name == b"content-length");
        match end {
            End::WithLastChunk if is_open => self.pace.ending = Ending::WithLastChunk,
            // A message that says how long its body is has no place for trailers.
            End::Trailers if is_open && !has_length => {
                self.trailers.push((ADDED_TRAILER.to_vec(), b"1".to_vec()));
            }
            End::AsWritten | End::WithLastChunk | End::Trailers => {}
        }
    }

    fn wait(&mut self, moment: Moment, by: Duration) {
        let before = match moment {
            Moment::Before => 0,
            Moment::Amid => {
                let whole = self.body.concat();
                if whole.len() < 2 {
                    return;
                }
                *self.body = split(&whole, &[whole.len().div_ceil(2)]);
                1
            }
        };
        self.pace.pause = Some(Pause { before, by });
    }
}

/// A body in chunks that end at these places, in order, and with the body.
fn split(whole: &[u8], places: &[usize]) -> Vec<Vec<u8>> {
    let within = places.iter().copied().filter(|&at| at < whole.len());
    let ends = within.chain([whole.len()]);
    let mut begin = 0;
    let chunk = |end| {
        let chunk = whole.get(begin..end).unwrap_or_default().to_vec();
        begin = end;
        chunk
    };
    ends.map(chunk).collect()
}

/// Places that look random, and are the same for the same draw.
fn random(number: usize, length: usize) -> Vec<usize> {
    let mut numbers = Numbers::of(number as u64);
    let many = 1 + numbers.below(length.min(AT_EACH_END));
    let places: BTreeSet<usize> = (0..many).map(|_| 1 + numbers.below(length.max(2) - 1)).collect();
    places.into_iter().collect()
}

impl fmt::Display for Variation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Body { side, chunks, end } => {
                write!(f, "{side} body {chunks}")?;
                f.write_str(match end {
                    End::AsWritten => "",
                    End::WithLastChunk => ", ends with its last chunk",
                    End::Trailers => ", with trailers",
                })
            }
            Self::Callouts { side, moment: Moment::Before } => {
                write!(f, "callouts answered before the {side} body")
            }
            Self::Callouts { side, moment: Moment::Amid } => {
                write!(f, "callouts answered amid the {side} body")
            }
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "request",
            Self::Response => "response",
        })
    }
}

impl fmt::Display for Chunks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AsWritten => f.write_str("as written"),
            Self::Whole => f.write_str("whole"),
            Self::At(places) => {
                let places: Vec<String> = places.iter().map(ToString::to_string).collect();
                write!(f, "split at {}", places.join(", "))
            }
            Self::Single => f.write_str("byte by byte"),
            Self::Random(number) => write!(f, "in random chunks {number}"),
        }
    }
}

/// What stands under `vary`: `all`, or what.
pub(super) struct RawVary(pub(super) Vary);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    over: Option<Vec<Over>>,
    #[serde(default)]
    at: Vec<usize>,
    random: Option<usize>,
}

impl<'de> Deserialize<'de> for RawVary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = match WordOr::<Fields>::deserialize(deserializer)? {
            WordOr::Word(word) if word == "all" => {
                Fields { over: None, at: Vec::new(), random: None }
            }
            WordOr::Word(word) => {
                let what =
                    format!("vary: `{word}`; write `all` or {{ over: […], at: […], random: N }}");
                return Err(de::Error::custom(what));
            }
            WordOr::Other(fields) => fields,
        };
        fields.check().map(Self).map_err(de::Error::custom)
    }
}

impl Fields {
    fn check(self) -> Result<Vary, String> {
        let all = || vec![Over::Chunks, Over::End, Over::Trailers, Over::Callouts];
        let over: BTreeSet<Over> = self.over.unwrap_or_else(all).into_iter().collect();
        let random = self.random.unwrap_or(RANDOM);
        if over.is_empty() {
            return Err("vary.over: an empty list; name what varies, or remove `vary`".into());
        }
        if self.at.contains(&0) {
            return Err("vary.at: 0 is before the first byte; places count from 1".into());
        }
        if self.at.len() > MOST_DECLARED {
            let places = self.at.len();
            return Err(format!("vary.at: {places} places are above the bound of {MOST_DECLARED}"));
        }
        if random > MOST_RANDOM {
            return Err(format!("vary.random: {random} is above the bound of {MOST_RANDOM}"));
        }
        Ok(Vary { over, at: self.at.into_iter().collect(), random })
    }
}
