//! Envoy's own trace of the border, as `--component-log-level wasm:trace` writes it.
//!
//! It has the raw words of each call, and not what is in memory: pointers stay numbers. Only the text of
//! a log line can be told, since Envoy writes it beside the call. A guest is what runs on a thread: that
//! several VMs do is not in the log. Lines that say nothing of the border are kept as they are.

use std::time::Duration;

use tollgate_abi::{
    BufferType, Call, Callback, CallbackKind, Function, LogLevel, MapType, MetricType, Status,
    StreamType,
};

use super::event::{Argument, Event, What, arguments};

/// A log that was read.
#[derive(Clone, Debug, Default)]
pub struct EnvoyLog {
    /// Its lines as events, in order.
    pub events: Vec<Event>,
    /// How many lines say nothing of the border.
    pub other_lines: usize,
}

/// Reads a log.
pub fn envoy_log(text: &str) -> EnvoyLog {
    let mut log = EnvoyLog::default();
    let mut began = None;
    let mut at = Duration::ZERO;
    let mut open: Vec<(String, usize)> = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line.trim().is_empty() {
            continue;
        }
        let head = Head::of(line);
        let guest = head.guest();
        if let Some(time) = head.time {
            at = time.saturating_sub(*began.get_or_insert(time));
        }
        let read = crossing(head.message).map(|(way, rest)| match way {
            Way::In => enter(&guest, rest),
            Way::InReturn => leave(&guest, rest),
            Way::Out => {
                let called = call(&guest, rest);
                if called.is_some() {
                    open.push((guest.clone(), log.events.len()));
                }
                called
            }
            Way::OutReturn => {
                let last = open.iter().rposition(|(other, _)| *other == guest);
                let event = last.map(|last| open.remove(last).1);
                let event = event.and_then(|event| log.events.get_mut(event));
                let is_answered = event.is_some_and(|event| answer(&mut event.what, rest));
                is_answered.then_some(Crossed::Answered)
            }
        });
        let what = match read {
            Some(Some(Crossed::Event(what))) => what,
            Some(Some(Crossed::Answered)) => continue,
            Some(None) | None => {
                let asked = open.iter().rfind(|(other, _)| *other == guest);
                let asked = asked.and_then(|&(_, event)| log.events.get_mut(event));
                if let (Some((_, message)), Some(event)) = (line.split_once("wasm log"), asked) {
                    let mut text = message.to_owned();
                    let mut rest = lines.clone();
                    while let Some(line) = rest.next_if(|line| !Head::of(line).is_one()) {
                        text = format!("{text}\n{line}");
                    }
                    if tell_message(&mut event.what, &text) {
                        lines = rest;
                        continue;
                    }
                }
                log.other_lines += 1;
                What::Other { text: line.to_owned() }
            }
        };
        log.events.push(Event { at, what });
    }
    log
}

/// What a line of the border comes to.
enum Crossed {
    Event(What),
    /// It completes the event of a line before.
    Answered,
}

enum Way {
    In,
    InReturn,
    Out,
    OutReturn,
}

/// The begin of a line: `[time][thread][level][component] [source] message`.
struct Head<'a> {
    time: Option<Duration>,
    thread: &'a str,
    message: &'a str,
}

impl<'a> Head<'a> {
    fn of(line: &'a str) -> Self {
        let mut parts = line.split(']').map(|part| part.trim_start().trim_start_matches('['));
        let time = parts.next().and_then(time_of_day);
        let thread = parts.next().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        // Where the message starts does not hang on the format of the log.
        let start = ["[host->vm]", "[host<-vm]", "[vm->host]", "[vm<-host]"];
        let start = start.iter().find_map(|mark| line.find(mark));
        let message = start.and_then(|start| line.get(start..)).unwrap_or(line);
        Self { time, thread: thread.unwrap_or(""), message }
    }

    /// Whether a line begins here, and does not go on.
    fn is_one(&self) -> bool {
        self.time.is_some() || crossing(self.message).is_some()
    }

    fn guest(&self) -> String {
        match self.thread {
            "" => "vm".to_owned(),
            thread => format!("thread {thread}"),
        }
    }
}

fn time_of_day(stamp: &str) -> Option<Duration> {
    let (_, time) = stamp.split_once(' ')?;
    let mut parts = time.split(':');
    let hours: u64 = parts.next()?.parse().ok()?;
    let minutes: u64 = parts.next()?.parse().ok()?;
    let (seconds, fraction) = parts.next()?.split_once('.')?;
    let seconds: u64 = seconds.parse().ok()?;
    let millis: u64 = fraction.get(..3)?.parse().ok()?;
    Some(Duration::from_millis(((hours * 60 + minutes) * 60 + seconds) * 1000 + millis))
}

fn crossing(message: &str) -> Option<(Way, &str)> {
    let (mark, rest) = message.strip_prefix('[')?.split_once("] ")?;
    let way = match mark {
        "host->vm" => Way::In,
        "host<-vm" => Way::InReturn,
        "vm->host" => Way::Out,
        "vm<-host" => Way::OutReturn,
        _ => return None,
    };
    Some((way, rest))
}

/// Splits `name(1, 2)`.
fn split_call(text: &str) -> Option<(&str, Vec<&str>)> {
    let (name, words) = text.trim_end().strip_suffix(')')?.split_once('(')?;
    let words = words.split(',').map(str::trim).filter(|word| !word.is_empty());
    Some((name, words.collect()))
}

fn enter(guest: &str, text: &str) -> Option<Crossed> {
    let (name, words) = split_call(text)?;
    // The guest's allocator runs while a call is answered; it is no callback.
    if matches!(name, "proxy_on_memory_allocate" | "malloc") {
        return Some(Crossed::Answered);
    }
    let numbers: Option<Vec<u32>> = words.iter().map(|word| word.parse().ok()).collect();
    let callback = CallbackKind::from_name(name)
        .zip(numbers)
        .and_then(|(kind, numbers)| Callback::from_words(kind, &numbers));
    Some(Crossed::Event(What::Callback {
        guest: guest.to_owned(),
        name: name.to_owned(),
        context: callback.as_ref().map(Callback::context),
        arguments: match callback {
            Some(callback) => arguments(callback.arguments()),
            None => arguments(words.iter().enumerate()),
        },
    }))
}

fn leave(guest: &str, text: &str) -> Option<Crossed> {
    let (name, value) = text.split_once(" return: ")?;
    if matches!(name, "proxy_on_memory_allocate" | "malloc") {
        return Some(Crossed::Answered);
    }
    let word = value.parse().ok();
    let value = match (CallbackKind::from_name(name), word) {
        (Some(kind), Some(word)) => kind.show_return(word),
        (_, _) if value == "void" => "nothing".to_owned(),
        (_, _) => value.to_owned(),
    };
    let (guest, name) = (guest.to_owned(), name.to_owned());
    Some(Crossed::Event(What::Return { guest, name, value }))
}

fn call(guest: &str, text: &str) -> Option<Crossed> {
    let (name, words) = split_call(text)?;
    let function = function(name);
    let names = function.map_or(&[][..], Function::word_names);
    let arguments = words.iter().enumerate().map(|(index, word)| match names.get(index) {
        Some(&name) => Argument { name: name.to_owned(), value: shown(name, word) },
        None => Argument { name: index.to_string(), value: (*word).to_owned() },
    });
    Some(Crossed::Event(What::Call {
        guest: guest.to_owned(),
        function: called(name).to_owned(),
        arguments: arguments.collect(),
        status: "no answer".into(),
        why: None,
        answer: None,
    }))
}

/// A raw word by the name of what it stands for, where that is one of a few.
fn shown(name: &str, word: &str) -> String {
    let Ok(number) = word.parse::<u32>() else { return word.to_owned() };
    match name {
        "buffer" => BufferType::from(number).to_string(),
        "kind" => MetricType::from(number).to_string(),
        "level" => LogLevel::from(number).to_string(),
        "map" => MapType::from(number).to_string(),
        "stream" => StreamType::from(number).to_string(),
        _ => word.to_owned(),
    }
}

/// Puts the message that a line has in the place of its address and size; whether it is that of the call.
fn tell_message(call: &mut What, line: &str) -> bool {
    let What::Call { function, arguments: words, .. } = call else { return false };
    let [level, _, size] = words.as_slice() else { return false };
    let size = size.value.parse().ok().filter(|_| function == Function::Log.name());
    // Before it stand names of the plugin, which may have a colon as the message may: its size tells.
    let start = size.and_then(|size: usize| line.len().checked_sub(size));
    let Some((names, message)) = start.and_then(|start| line.split_at_checked(start)) else {
        return false;
    };
    if !names.ends_with(": ") {
        return false;
    }
    let (level, told) =
        (level.clone(), Call::Log { level: LogLevel::Info, message: message.into() });
    *words = std::iter::once(level).chain(arguments(told.arguments()).pop()).collect();
    true
}

/// Completes a call; whether the line is about it.
fn answer(call: &mut What, text: &str) -> bool {
    let Some((name, value)) = text.split_once(" return: ") else { return false };
    let What::Call { function: earlier, status, .. } = call else { return false };
    if earlier != called(name) {
        return false;
    }
    *status = match (function(name), value.parse::<u32>()) {
        (Some(function), Ok(word)) if function.module() == "env" => Status::from(word).to_string(),
        _ => value.to_owned(),
    };
    true
}

/// The name of a function that Envoy writes, without its module if that is a function of ours.
fn called(name: &str) -> &str {
    function(name).map_or(name, |function| function.name())
}

/// A function as Envoy writes it, with the module that it is imported from.
fn function(name: &str) -> Option<Function> {
    let (module, name) = name.split_once('.')?;
    Function::from_import(module, name)
}
