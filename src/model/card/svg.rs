use std::fmt::Write;

use super::markup::escape;

/// A plot area with axes, in the unit square of its data.
pub(super) struct Canvas {
    out: String,
    frame: Frame,
}

#[derive(Clone, Copy)]
struct Frame {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
}

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 300.0;

/// The colours of what is drawn; the first two are told apart by the colour-blind too.
#[derive(Clone, Copy)]
pub(super) enum Ink {
    First,
    Second,
    Faint,
}

impl Ink {
    const fn class(self) -> &'static str {
        match self {
            Self::First => "a",
            Self::Second => "b",
            Self::Faint => "f",
        }
    }
}

const STYLE: &str = "text{font:11px system-ui,sans-serif;fill:#6b7280}.g{stroke:#9ca3af;stroke-opacity:.35}\
                     .a{stroke:#0072b2;fill:#0072b2}.b{stroke:#d55e00;fill:#d55e00}.f{stroke:#9ca3af;fill:#9ca3af}\
                     .l{fill:none;stroke-width:1.8}.d{stroke-dasharray:4 4;stroke-width:1.2}.r{stroke:none;fill-opacity:.75}";

impl Canvas {
    /// With room for long labels on the left when `wide_left`.
    pub(super) fn new(title: &str, wide_left: bool) -> Self {
        let left = if wide_left { 150.0 } else { 48.0 };
        let frame = Frame { left, top: 14.0, width: WIDTH - left - 22.0, height: HEIGHT - 14.0 - 44.0 };
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             aria-label=\"{0}\">\n<title>{0}</title>\n<style>{STYLE}</style>\n",
            escape(title)
        );
        let _ = writeln!(
            out,
            "<rect class=\"g\" fill=\"none\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
            frame.left, frame.top, frame.width, frame.height
        );
        Self { out, frame }
    }

    fn x(&self, x: f64) -> f64 {
        self.frame.left + x.clamp(0.0, 1.0) * self.frame.width
    }

    fn y(&self, y: f64) -> f64 {
        self.frame.top + (1.0 - y.clamp(0.0, 1.0)) * self.frame.height
    }

    /// Ticks are a place within 0 to 1 and its label; each has a line through the plot.
    pub(super) fn axes(&mut self, x_title: &str, x_ticks: &[(f64, String)], y_title: &str, y_ticks: &[(f64, String)]) {
        let (bottom, right) = (self.frame.top + self.frame.height, self.frame.left + self.frame.width);
        for (place, _) in x_ticks {
            let x = self.x(*place);
            self.line((x, self.frame.top), (x, bottom));
        }
        for (place, _) in y_ticks {
            let y = self.y(*place);
            self.line((self.frame.left, y), (right, y));
        }
        self.labels(x_ticks, y_ticks);
        self.text((f64::midpoint(self.frame.left, right), bottom + 32.0), "middle", x_title);
        if !y_title.is_empty() {
            let (x, y) = (12.0, f64::midpoint(self.frame.top, bottom));
            let _ = writeln!(
                self.out,
                "<text x=\"{x}\" y=\"{y:.1}\" text-anchor=\"middle\" transform=\"rotate(-90 {x} {y:.1})\">{}</text>",
                escape(y_title)
            );
        }
    }

    /// Ticks without lines.
    pub(super) fn labels(&mut self, x_ticks: &[(f64, String)], y_ticks: &[(f64, String)]) {
        let bottom = self.frame.top + self.frame.height;
        for (place, label) in x_ticks {
            let x = self.x(*place);
            self.text((x, bottom + 14.0), "middle", label);
        }
        for (place, label) in y_ticks {
            let y = self.y(*place);
            self.text((self.frame.left - 6.0, y + 4.0), "end", label);
        }
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64)) {
        let _ = writeln!(
            self.out,
            "<line class=\"g\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
            from.0, from.1, to.0, to.1
        );
    }

    fn text(&mut self, (x, y): (f64, f64), anchor: &str, text: &str) {
        let _ = writeln!(self.out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", escape(text));
    }

    /// A curve through points of the unit square.
    pub(super) fn curve(&mut self, points: &[[f64; 2]], ink: Ink, dashed: bool) {
        let dots: Vec<String> = points.iter().map(|[x, y]| format!("{:.1},{:.1}", self.x(*x), self.y(*y))).collect();
        let dashes = if dashed { " d" } else { "" };
        let _ = writeln!(
            self.out,
            "<polyline class=\"{} l{dashes}\" style=\"fill:none\" points=\"{}\"/>",
            ink.class(),
            dots.join(" ")
        );
    }

    pub(super) fn dot(&mut self, [x, y]: [f64; 2], radius: f64, ink: Ink) {
        let (x, y) = (self.x(x), self.y(y));
        let _ =
            writeln!(self.out, "<circle class=\"{} r\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\"/>", ink.class());
    }

    /// A filled rectangle between two corners of the unit square.
    pub(super) fn bar(&mut self, from: [f64; 2], to: [f64; 2], ink: Ink) {
        let (left, right) = (self.x(from[0].min(to[0])), self.x(from[0].max(to[0])));
        let (top, bottom) = (self.y(from[1].max(to[1])), self.y(from[1].min(to[1])));
        let _ = writeln!(
            self.out,
            "<rect class=\"{} r\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
            ink.class(),
            right - left,
            bottom - top
        );
    }

    /// A shaded cell with a label in its middle; `share` of 0 to 1 sets the shade.
    pub(super) fn cell(&mut self, from: [f64; 2], to: [f64; 2], share: f64, lines: [&str; 2]) {
        let (left, top) = (self.x(from[0]), self.y(to[1]));
        let (width, height) = (self.x(to[0]) - left, self.y(from[1]) - top);
        let opacity = 0.08 + 0.5 * share.clamp(0.0, 1.0);
        let _ = writeln!(
            self.out,
            "<rect class=\"a\" style=\"stroke:none;fill-opacity:{opacity:.2}\" x=\"{left:.1}\" y=\"{top:.1}\" \
             width=\"{width:.1}\" height=\"{height:.1}\"/>"
        );
        let middle = left + width / 2.0;
        self.text((middle, top + height / 2.0 - 2.0), "middle", lines[0]);
        self.text((middle, top + height / 2.0 + 13.0), "middle", lines[1]);
    }

    /// Names what is drawn, in the corner where the plot has least.
    pub(super) fn legend(&mut self, entries: &[(Ink, &str)], at: [f64; 2]) {
        let (x, mut y) = (self.x(at[0]), self.y(at[1]));
        for (ink, name) in entries {
            let _ = writeln!(
                self.out,
                "<rect class=\"{} r\" x=\"{x:.1}\" y=\"{:.1}\" width=\"10\" height=\"10\"/>",
                ink.class(),
                y - 9.0
            );
            self.text((x + 15.0, y), "start", name);
            y += 15.0;
        }
    }

    pub(super) fn finish(mut self) -> String {
        self.out.push_str("</svg>\n");
        self.out
    }
}

/// 0 to 1 in fifths.
pub(super) fn unit_ticks() -> Vec<(f64, String)> {
    (0..=5).map(|fifth| f64::from(fifth) / 5.0).map(|place| (place, format!("{place:.1}"))).collect()
}
