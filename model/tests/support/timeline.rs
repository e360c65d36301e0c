//! A timeline as an SVG: when occurrences were due, what became of each, and when nothing worked.

use std::fmt::Write as _;

/// What became of one occurrence. Times in seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Ran {
        from: i64,
        to: i64,
    },
    /// It began, and was cancelled for a newer one.
    Cancelled {
        from: i64,
        to: i64,
    },
    Skipped {
        why: &'static str,
    },
}

/// A picture of one policy.
#[derive(Clone, Debug)]
pub(crate) struct Timeline {
    pub(crate) title: String,
    /// When nothing was dispatched.
    pub(crate) down: Option<(i64, i64)>,
    /// Due instant and fate, in order.
    pub(crate) occurrences: Vec<(i64, Fate)>,
    pub(crate) end: i64,
}

const LEFT: i64 = 60;
const WIDTH: i64 = 640;
const TOP: i64 = 40;
const ROW: i64 = 26;

impl Timeline {
    fn x(&self, at: i64) -> i64 {
        LEFT + at * WIDTH / self.end
    }

    pub(crate) fn svg(&self) -> String {
        let rows = i64::try_from(self.occurrences.len()).unwrap_or(0);
        let (width, bottom) = (LEFT + WIDTH + 20, TOP + rows * ROW);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {}\" role=\"img\">\n<title>{}</title>\n{STYLE}",
            bottom + 30,
            self.title
        );
        let mut put = |line: String| {
            let _ = writeln!(svg, "{line}");
        };
        put(format!("<text class=\"title\" x=\"10\" y=\"20\">{}</text>", self.title));
        if let Some((from, to)) = self.down {
            let (x, w) = (self.x(from), self.x(to) - self.x(from));
            put(format!(
                "<rect class=\"down\" x=\"{x}\" y=\"{TOP}\" width=\"{w}\" height=\"{}\"/>",
                bottom - TOP
            ));
            put(format!("<text class=\"note\" x=\"{}\" y=\"{}\">down</text>", x + 4, TOP - 4));
        }
        for (row, (due, fate)) in self.occurrences.iter().enumerate() {
            let y = TOP + i64::try_from(row).unwrap_or(0) * ROW;
            let (x, middle) = (self.x(*due), y + ROW / 2);
            put(format!("<text class=\"label\" x=\"{}\" y=\"{}\">{due} s</text>", LEFT - 8, middle + 4));
            put(format!(
                "<line class=\"due\" x1=\"{x}\" y1=\"{}\" x2=\"{x}\" y2=\"{}\"/>",
                y + 3,
                y + ROW - 3
            ));
            match fate {
                Fate::Ran { from, to } | Fate::Cancelled { from, to } => {
                    let (x1, x2) = (self.x(*from), self.x(*to));
                    if from > due {
                        put(format!(
                            "<line class=\"wait\" x1=\"{x}\" y1=\"{middle}\" x2=\"{x1}\" y2=\"{middle}\"/>"
                        ));
                    }
                    let class = if matches!(fate, Fate::Ran { .. }) { "run" } else { "cancelled" };
                    put(format!(
                        "<rect class=\"{class}\" x=\"{x1}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"3\"/>",
                        y + 5,
                        x2 - x1,
                        ROW - 10
                    ));
                    if class == "cancelled" {
                        put(format!(
                            "<text class=\"note\" x=\"{}\" y=\"{}\">cancelled</text>",
                            x2 + 5,
                            middle + 4
                        ));
                    }
                }
                Fate::Skipped { why } => {
                    put(format!("<text class=\"skip\" x=\"{}\" y=\"{}\">✕ {why}</text>", x + 6, middle + 4));
                }
            }
        }
        put(format!(
            "<line class=\"axis\" x1=\"{LEFT}\" y1=\"{bottom}\" x2=\"{}\" y2=\"{bottom}\"/>",
            LEFT + WIDTH
        ));
        for at in (0..=self.end).step_by(20) {
            put(format!(
                "<text class=\"label\" x=\"{}\" y=\"{}\">{at} s</text>",
                self.x(at) + 12,
                bottom + 18
            ));
        }
        svg.push_str("</svg>\n");
        svg
    }
}

/// Readable on light and dark pages.
const STYLE: &str = "<style>\n\
text{font:12px system-ui,sans-serif;fill:#333}.title{font-weight:600;font-size:14px}.label{text-anchor:end;fill:#666}.note{fill:#666;font-style:italic}\n\
.skip{fill:#b33}.due{stroke:#333;stroke-width:2}.axis{stroke:#999}.wait{stroke:#888;stroke-width:2;stroke-dasharray:3 3}\n\
.run{fill:#3a7d44}.cancelled{fill:#c98a1b}.down{fill:#8884}\n\
@media(prefers-color-scheme:dark){text{fill:#ddd}.label,.note{fill:#aaa}.due{stroke:#ddd}.skip{fill:#f88}}\n\
</style>\n";
