use std::io::{self, Write as _, stdout};

use rustix::termios::tcgetwinsize;

/// A part of the terminal that is drawn again and again, in place; the cursor comes back at the end.
pub(super) struct Screen {
    drawn: usize,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    Plain,
    Bold,
    Dim,
}

/// A line and its look.
pub(super) type Line = (Look, String);

impl Screen {
    pub(super) fn new() -> io::Result<Self> {
        write!(stdout(), "\x1b[?25l")?;
        stdout().flush()?;
        Ok(Self { drawn: 0 })
    }

    /// Columns and rows; a terminal that does not tell has 80 by 24.
    pub(super) fn size() -> (usize, usize) {
        let size = tcgetwinsize(stdout()).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
        size.map_or((80, 24), |size| (usize::from(size.ws_col), usize::from(size.ws_row)))
    }

    /// Draws over what was drawn before. What does not fit is left out.
    pub(super) fn draw(&mut self, lines: &[Line]) -> io::Result<()> {
        let (columns, rows) = Self::size();
        let mut frame = String::new();
        if self.drawn > 0 {
            frame.push_str(&format!("\x1b[{}A", self.drawn));
        }
        frame.push_str("\r\x1b[J");
        let lines = lines.iter().take(rows.saturating_sub(1));
        self.drawn = lines.len();
        for (look, text) in lines {
            let text: String = text.chars().take(columns.saturating_sub(1)).collect();
            match look {
                Look::Plain => frame.push_str(&text),
                Look::Bold => frame.push_str(&format!("\x1b[1m{text}\x1b[0m")),
                Look::Dim => frame.push_str(&format!("\x1b[2m{text}\x1b[0m")),
            }
            frame.push_str("\r\n");
        }
        let mut out = stdout().lock();
        out.write_all(frame.as_bytes())?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that is gone.
        let restored = write!(stdout(), "\x1b[0m\x1b[?25h").and_then(|()| stdout().flush());
        drop(restored);
    }
}

/// A bar: this part of the whole, at most so many characters; something is never nothing.
pub(super) fn bar(part: u64, whole: u64, width: usize) -> String {
    let width = width as u64;
    let length =
        (part * width).checked_div(whole.max(1)).unwrap_or(0).clamp(u64::from(part > 0), width.max(1));
    "█".repeat(usize::try_from(length).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_share() {
        for (part, whole, length) in [(0, 10, 0), (10, 10, 20), (5, 10, 10), (1, 1000, 1), (0, 0, 0)] {
            assert_eq!(bar(part, whole, 20).chars().count(), length, "{part} of {whole}");
        }
    }
}
