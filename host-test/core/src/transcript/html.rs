//! A transcript as a page: time runs down, each guest and context has a lane, and host calls stand below
//! the callback that made them. Everything is in the page; it asks for nothing from elsewhere.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::time::Duration;

use super::event::{Argument, Event, What};

/// Contexts up to which each has a lane of its own; beyond it, each guest has one.
const MOST_LANES: usize = 12;

const STYLE: &str = include_str!("timeline.css");

/// Writes the page.
pub fn html(title: &str, events: &[Event]) -> String {
    let mut page = Page::new(events);
    for event in events {
        page.add(event);
    }
    page.close();
    let Page { lanes, body, .. } = page;
    let mut heads = String::new();
    for (index, lane) in lanes.names.iter().enumerate() {
        let column = index + 2;
        let _infallible =
            write!(heads, "<h2 style=\"grid-area:1/{column}\">{}</h2>", Escaped(lane));
    }
    let (title, count) = (Escaped(title), lanes.names.len());
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n\
         <main style=\"--lanes:{count}\">\n<h2 class=\"time\">time</h2>{heads}\n{body}</main>\n</body>\n</html>\n"
    )
}

struct Page {
    lanes: Lanes,
    body: String,
    last: Option<Duration>,
    /// The row of the last block: what comes later stands lower, whatever its lane.
    row: usize,
    /// The guest with a callback whose block is not closed.
    open: Option<String>,
    /// The callback that each guest ran last, and its column.
    ran: BTreeMap<String, (String, usize)>,
    /// Something has happened from outside: what guests do before is the start, and is folded.
    has_begun: bool,
}

impl Page {
    fn new(events: &[Event]) -> Self {
        Self {
            lanes: Lanes::of(events),
            body: String::new(),
            last: None,
            // Below the names of the lanes.
            row: 1,
            open: None,
            ran: BTreeMap::new(),
            has_begun: false,
        }
    }

    fn add(&mut self, event: &Event) {
        if let What::Call { guest, .. } | What::Return { guest, .. } | What::Trap { guest, .. } =
            &event.what
            && self.open.as_ref() != Some(guest)
            && let Some((name, column)) = self.ran.get(guest).cloned()
        {
            // Another guest has come between.
            self.begin(guest, event.at, column, &format_args!("<b>{}</b> goes on", Escaped(&name)));
        }
        match &event.what {
            What::Note { text } if self.open.is_some() => self.line("note", &Escaped(text)),
            What::Note { text } => {
                self.has_begun = true;
                self.wide("note", event.at, text);
            }
            What::Other { text } if self.open.is_some() => self.line("other", &Escaped(text)),
            What::Other { text } => self.wide("other", event.at, text),
            What::Callback { guest, name, context, arguments } => {
                let column = self.lanes.column(guest, *context) + 2;
                let arguments = Arguments(arguments);
                let summary = format_args!("<b>{}</b>{arguments}", Escaped(name));
                self.begin(guest, event.at, column, &summary);
                self.ran.insert(guest.clone(), (name.clone(), column));
            }
            What::Call { function, arguments, status, why, answer, .. } => {
                let class = if event.what.is_refused() { "call refused" } else { "call" };
                let status = Escaped(status);
                let answer = answer.iter().fold(String::new(), |text, answer| {
                    format!("{text} <code>{}</code>", Escaped(answer))
                });
                let why = why
                    .iter()
                    .fold(String::new(), |text, why| format!("{text} <em>{}</em>", Escaped(why)));
                let (function, arguments) = (Escaped(function), Arguments(arguments));
                let text = format!(
                    "{function}{arguments} <span class=\"status\">{status}</span>{answer}{why}"
                );
                self.line(class, &text);
            }
            What::Return { value, .. } => {
                self.line("return", &format!("→ {}", Escaped(value)));
                self.close();
            }
            What::Trap { message, .. } => {
                self.line("trap", &format!("→ trap: {}", Escaped(message)));
                self.close();
            }
        }
    }

    /// Begins a block of a guest.
    fn begin(&mut self, guest: &str, at: Duration, column: usize, summary: &dyn fmt::Display) {
        self.close();
        let row = self.next_row(at);
        let open = if self.has_begun { " open" } else { "" };
        self.write(format_args!(
            "<details{open} style=\"grid-area:{row}/{column}\"><summary>{summary}</summary>\n<ol>\n"
        ));
        self.open = Some(guest.to_owned());
    }

    fn close(&mut self) {
        if self.open.take().is_some() {
            self.body.push_str("</ol></details>\n");
        }
    }

    /// A line over all lanes.
    fn wide(&mut self, class: &str, at: Duration, text: &str) {
        let row = self.next_row(at);
        let text = Escaped(text);
        self.write(format_args!("<p class=\"{class}\" style=\"grid-row:{row}\">{text}</p>\n"));
    }

    /// Begins a row, with the time in its column where that has changed.
    fn next_row(&mut self, at: Duration) -> usize {
        self.row += 1;
        let row = self.row;
        if self.last != Some(at) {
            self.write(format_args!("<time style=\"grid-row:{row}\">{at:?}</time>\n"));
            self.last = Some(at);
        }
        row
    }

    fn line(&mut self, class: &str, text: &dyn fmt::Display) {
        self.write(format_args!("<li class=\"{class}\">{text}</li>\n"));
    }

    fn write(&mut self, text: fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _infallible = self.body.write_fmt(text);
    }
}

/// The columns in the order in which guests and contexts first run.
struct Lanes {
    names: Vec<String>,
    by_context: bool,
}

impl Lanes {
    fn of(events: &[Event]) -> Self {
        let lanes = Self::named(events, true);
        if lanes.names.len() <= MOST_LANES { lanes } else { Self::named(events, false) }
    }

    fn named(events: &[Event], by_context: bool) -> Self {
        let mut lanes = Self { names: Vec::new(), by_context };
        for event in events {
            if let What::Callback { guest, context, .. } = &event.what {
                let name = lanes.name(guest, *context);
                if !lanes.names.contains(&name) {
                    lanes.names.push(name);
                }
            }
        }
        lanes
    }

    fn name(&self, guest: &str, context: Option<u32>) -> String {
        match context.filter(|_| self.by_context) {
            Some(context) => format!("{guest} · context {context}"),
            None => guest.to_owned(),
        }
    }

    fn column(&self, guest: &str, context: Option<u32>) -> usize {
        let name = self.name(guest, context);
        self.names.iter().position(|lane| *lane == name).unwrap_or(0)
    }
}

struct Arguments<'a>(&'a [Argument]);

impl fmt::Display for Arguments<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Argument { name, value } in self.0 {
            write!(f, " <i>{}</i> <code>{}</code>", Escaped(name), Escaped(value))?;
        }
        Ok(())
    }
}

/// Text as HTML shows it.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at: u64, what: What) -> Event {
        Event { at: Duration::from_millis(at), what }
    }

    fn runs(guest: &str, context: u32) -> What {
        let argument = Argument { name: "path".into(), value: "<b>&".into() };
        let (guest, name) = (guest.into(), "proxy_on_tick".into());
        What::Callback { guest, name, context: Some(context), arguments: vec![argument] }
    }

    fn returns(guest: &str) -> What {
        let (guest, name) = (guest.into(), "proxy_on_tick".into());
        What::Return { guest, name, value: "nothing".into() }
    }

    #[test]
    fn a_page_has_lanes_and_asks_for_nothing() {
        let call = What::Call {
            guest: "a@0".into(),
            function: "proxy_log".into(),
            arguments: Vec::new(),
            status: "bad_argument".into(),
            why: Some("why <not>".into()),
            answer: None,
        };
        let events = [
            event(0, What::Note { text: "request 1".into() }),
            event(0, runs("a@0", 1)),
            event(0, call),
            event(0, returns("a@0")),
            event(5, runs("a@1", 1)),
            event(5, What::Trap { guest: "a@1".into(), message: "unreachable".into() }),
        ];
        let page = html("a & b", &events);
        for part in [
            "<title>a &amp; b</title>",
            "--lanes:2",
            "grid-area:1/2\">a@0 · context 1</h2>",
            "grid-area:1/3\">a@1 · context 1</h2>",
            "<code>&lt;b&gt;&amp;</code>",
            "<li class=\"call refused\">proxy_log <span class=\"status\">bad_argument</span> <em>why &lt;not&gt;</em></li>",
            "<time style=\"grid-row:2\">0ns</time>",
            "<details open style=\"grid-area:3/2\">",
            "<time style=\"grid-row:4\">5ms</time>\n<details open style=\"grid-area:4/3\">",
            "<li class=\"trap\">→ trap: unreachable</li>",
        ] {
            assert!(page.contains(part), "`{part}` is not in {page}");
        }
        assert_eq!(page.matches("<details").count(), page.matches("</details>").count());
        assert!(!page.contains("http") && !page.contains("<script"), "{page}");
    }

    #[test]
    fn what_guests_do_at_once_stands_in_their_lanes() {
        let events = [
            event(0, What::Note { text: "both".into() }),
            event(1, runs("a", 1)),
            event(2, runs("b", 1)),
            event(3, returns("a")),
            event(4, returns("b")),
        ];
        let page = html("two", &events);
        let blocks: Vec<&str> = page.split("grid-area:").skip(3).collect();
        let lanes: Vec<&str> =
            blocks.iter().map(|block| block.get(..3).unwrap_or_default()).collect();
        assert_eq!(lanes, ["3/2", "4/3", "5/2", "6/3"], "{page}");
        for block in &blocks[2..] {
            assert!(block.contains("<b>proxy_on_tick</b> goes on</summary>"), "{block}");
            assert_eq!(block.matches("→ nothing").count(), 1, "{block}");
        }
    }

    #[test]
    fn many_contexts_share_the_lane_of_their_guest() {
        let events: Vec<Event> = (1..=20).map(|context| event(0, runs("a@0", context))).collect();
        let page = html("many", &events);
        assert!(page.contains("--lanes:1") && page.contains("grid-area:1/2\">a@0</h2>"), "{page}");
    }
}
