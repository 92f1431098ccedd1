//! Plots as inline SVG: distributions on one axis, and bars of parts.

use std::fmt::Write;

use crate::Spread;

/// Width of a plot, in its own units.
const WIDTH: f64 = 900.0;
/// Where the axis begins; names stand to the left of it.
const LEFT: f64 = 220.0;
/// Where it ends.
const RIGHT: f64 = WIDTH - 30.0;
/// Height of a row.
const ROW: f64 = 56.0;
/// How many bars a distribution has.
const BINS: usize = 80;
/// How wide a bar is, so that as many fit.
const BAR: f64 = (RIGHT - LEFT) / 80.0;
/// About how many ticks an axis has.
const TICKS: f64 = 8.0;
/// How many middle halves a figure may be away from its own.
const FAR: f64 = 3.0;
/// How long a name may be that stands beside a row, in characters.
const LONGEST_NAME: usize = 27;

/// Figures with their name.
pub(crate) struct Distribution<'a> {
    pub(crate) name: &'a str,
    pub(crate) figures: &'a [f64],
    pub(crate) spread: Spread,
}

/// A bar that is put together of parts, each with the place of its label in the legend.
pub(crate) struct Stack<'a> {
    pub(crate) name: &'a str,
    pub(crate) parts: Vec<(usize, f64)>,
}

/// A row for each distribution: how often figures lie where, the middle half, and the median.
pub(crate) fn distributions(rows: &[Distribution<'_>], unit: &str) -> String {
    let axis = Axis::around(rows.iter().map(|row| row.spread));
    let mut svg = Svg::with_rows(rows.len());
    svg.axis(&axis, unit);
    for (number, row) in rows.iter().enumerate() {
        let base = svg.name(number, row.name);
        let mut bins = [0_u32; BINS];
        for figure in row.figures {
            if let Some(bin) = axis.bin(*figure).and_then(|bin| bins.get_mut(bin)) {
                *bin += 1;
            }
        }
        let most = f64::from(bins.iter().copied().max().unwrap_or_default().max(1));
        let mut x = LEFT;
        for bin in bins {
            let height = f64::from(bin) / most * (ROW - 24.0);
            if bin > 0 {
                svg.rect(("c", number), (x, base - height, BAR, height), &format!("{bin} rounds"));
            }
            x += BAR;
        }
        let Spread { lower, median, upper, .. } = row.spread;
        let (lower_x, upper_x) = (axis.place(lower), axis.place(upper));
        let half = format!("{median:.3}, half from {lower:.3} to {upper:.3}");
        svg.line("half", (lower_x, base + 5.0), (upper_x, base + 5.0), &half);
        let at = axis.place(median);
        svg.line("median", (at, base - ROW + 22.0), (at, base + 9.0), &half);
        svg.text("value", (at + 5.0, base - ROW + 30.0), &format!("{median:.2}"));
    }
    svg.end()
}

/// A row for each stack: its parts one after another, from 0 on.
pub(crate) fn stacks(rows: &[Stack<'_>], labels: &[&str], unit: &str) -> String {
    let sum = |row: &Stack<'_>| row.parts.iter().map(|(_, size)| size.max(0.0)).sum::<f64>();
    let axis = Axis { from: 0.0, to: rows.iter().map(sum).fold(1e-6, f64::max) * 1.08 };
    let mut svg = Svg::with_rows(rows.len());
    svg.axis(&axis, unit);
    for (number, row) in rows.iter().enumerate() {
        let base = svg.name(number, row.name);
        let mut from = 0.0;
        for &(label, size) in &row.parts {
            let (x, end) = (axis.place(from), axis.place(from + size.max(0.0)));
            let name = labels.get(label).copied().unwrap_or_default();
            let said = format!("{name}: {size:.2} {unit}");
            svg.rect(("c", label), (x, base - 26.0, end - x, 26.0), &said);
            from += size.max(0.0);
        }
        svg.text("value", (axis.place(from) + 5.0, base - 9.0), &format!("{from:.2}"));
    }
    svg.end()
}

/// What the colours of stacks stand for.
pub(crate) fn legend(labels: &[&str]) -> String {
    let mut html = String::from("<p class=\"legend\">");
    for (number, label) in labels.iter().enumerate() {
        let colour = number % COLOURS;
        let label = escape(label);
        let _ = write!(html, "<span><i class=\"c{colour}\"></i>{label}</span> ");
    }
    html.push_str("</p>\n");
    html
}

/// How many colours the style has; more labels begin again.
pub(crate) const COLOURS: usize = 10;

/// Text as it stands in HTML.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            _ => escaped.push(letter),
        }
    }
    escaped
}

struct Axis {
    from: f64,
    to: f64,
}

impl Axis {
    /// One with room for most figures, and for none that are far away from the middle halves.
    fn around(spreads: impl Iterator<Item = Spread>) -> Self {
        let far = |spread: Spread| {
            let reach = FAR * (spread.upper - spread.lower);
            let from = spread.lowest.max(spread.lower - reach);
            (from, spread.highest.min(spread.upper + reach))
        };
        let all = (f64::INFINITY, f64::NEG_INFINITY);
        let (from, to) = spreads
            .map(far)
            .fold(all, |(from, to), (lowest, highest)| (from.min(lowest), to.max(highest)));
        let room = ((to - from) * 0.08).max(to.abs() * 0.002).max(1e-6);
        Self { from: from - room, to: to + room }
    }

    fn place(&self, figure: f64) -> f64 {
        LEFT + (figure - self.from) / (self.to - self.from) * (RIGHT - LEFT)
    }

    /// The bar of a figure; none outside of the axis.
    fn bin(&self, figure: f64) -> Option<usize> {
        if !(self.from..self.to).contains(&figure) {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and the number of bars"
        )]
        let bin = ((self.place(figure) - LEFT) / BAR) as usize;
        Some(bin)
    }

    /// Round figures along the axis, with as many decimals as they need.
    fn ticks(&self) -> (Vec<f64>, usize) {
        let rough = (self.to - self.from) / TICKS;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|by| by * power);
        let step = step.filter(|&step| step >= rough).fold(f64::INFINITY, f64::min);
        let mut ticks = Vec::new();
        let mut tick = (self.from / step).ceil() * step;
        while tick <= self.to && step.is_finite() {
            ticks.push(tick);
            tick += step;
        }
        let decimals = (0..6).find(|&decimals| step >= 0.1_f64.powi(decimals)).unwrap_or(6);
        (ticks, usize::try_from(decimals).unwrap_or_default())
    }
}

/// An SVG that is being written.
struct Svg {
    text: String,
    height: f64,
}

impl Svg {
    fn with_rows(rows: usize) -> Self {
        let height = f64::from(u32::try_from(rows).unwrap_or(u32::MAX)) * ROW + 40.0;
        let text = format!(
            "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" xmlns=\"http://www.w3.org/2000/svg\">\n"
        );
        Self { text, height }
    }

    fn axis(&mut self, axis: &Axis, unit: &str) {
        let bottom = self.height - 30.0;
        let (ticks, decimals) = axis.ticks();
        for tick in ticks {
            let x = axis.place(tick);
            self.line("grid", (x, 4.0), (x, bottom), "");
            // Not less than nothing, where it is nothing.
            let tick = if tick == 0.0 { 0.0 } else { tick };
            self.text("tick", (x, bottom + 14.0), &format!("{tick:.decimals$}"));
        }
        self.text("unit", (RIGHT, bottom + 27.0), unit);
    }

    /// Writes the name of a row, and gives where its figures stand on.
    fn name(&mut self, row: usize, name: &str) -> f64 {
        let base = f64::from(u32::try_from(row).unwrap_or(u32::MAX)) * ROW + ROW - 10.0;
        // The end of a path tells more than its beginning.
        let length = name.chars().count();
        let shown = if length > LONGEST_NAME {
            format!("…{}", name.chars().skip(length - LONGEST_NAME).collect::<String>())
        } else {
            name.to_owned()
        };
        self.text("name", (LEFT - 12.0, base - 9.0), &shown);
        base
    }

    fn rect(&mut self, colour: (&str, usize), place: (f64, f64, f64, f64), said: &str) {
        let (class, number) = (colour.0, colour.1 % COLOURS);
        let (x, y, width, height) = place;
        let said = escape(said);
        let _ = writeln!(
            self.text,
            "<rect class=\"{class}{number}\" x=\"{x:.2}\" y=\"{y:.2}\" width=\"{width:.2}\" height=\"{height:.2}\"><title>{said}</title></rect>"
        );
    }

    fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64), said: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        let said = escape(said);
        let _ = writeln!(
            self.text,
            "<line class=\"{class}\" x1=\"{x1:.2}\" y1=\"{y1:.2}\" x2=\"{x2:.2}\" y2=\"{y2:.2}\"><title>{said}</title></line>"
        );
    }

    fn text(&mut self, class: &str, (x, y): (f64, f64), text: &str) {
        let text = escape(text);
        let _ =
            writeln!(self.text, "<text class=\"{class}\" x=\"{x:.2}\" y=\"{y:.2}\">{text}</text>");
    }

    fn end(mut self) -> String {
        self.text.push_str("</svg>\n");
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        let check = |from, to, expected: &[&str]| {
            let (ticks, decimals) = Axis { from, to }.ticks();
            let ticks: Vec<String> =
                ticks.iter().map(|tick| format!("{tick:.decimals$}")).collect();
            assert_eq!(ticks, expected, "{from} to {to}");
        };
        check(0.0, 8.0, &["0", "1", "2", "3", "4", "5", "6", "7", "8"]);
        check(3.91, 4.35, &["4.0", "4.1", "4.2", "4.3"]);
        check(0.0, 1000.0, &["0", "200", "400", "600", "800", "1000"]);
    }

    #[test]
    fn an_axis_leaves_out_what_is_far_away() {
        let mut figures: Vec<f64> = (0..100).map(|n| 4.0 + f64::from(n) / 100.0).collect();
        let check = |figures: &[f64], from: f64, to: f64| {
            let axis = Axis::around([Spread::of(figures.to_vec())].into_iter());
            let off = (axis.from - from).abs().max((axis.to - to).abs());
            assert!(off < 0.01, "{} to {}", axis.from, axis.to);
        };
        check(&figures, 3.978, 5.012);
        figures.extend([140.0; 10]);
        check(&figures, 3.863, 6.644);
    }

    #[test]
    fn a_figure_outside_of_the_axis_has_no_bar() {
        let axis = Axis { from: 1.0, to: 2.0 };
        let check = |figure, expected| assert_eq!(axis.bin(figure), expected, "{figure}");
        check(0.9, None);
        check(1.0, Some(0));
        check(1.5, Some(BINS / 2));
        check(2.0, None);
        check(f64::NAN, None);
    }

    #[test]
    fn names_cannot_break_out_of_the_page() {
        assert_eq!(escape("<b>&\"</b>"), "&lt;b&gt;&amp;&quot;&lt;/b&gt;");
    }
}
