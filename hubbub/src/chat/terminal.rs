//! The person's side: lines in, lines out. On a terminal the line being written stays below what arrives; else plain lines.

use crossterm::event::{Event, EventStream, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::terminal::{Clear, ClearType, disable_raw_mode, enable_raw_mode, size};
use crossterm::{cursor, queue, style::Print};
use futures_util::StreamExt as _;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use tokio::sync::mpsc;

/// Lines read ahead of the conversation; a file on standard input waits.
const LINES_QUEUED_MAX: usize = 64;
/// What fits into one message is less than this; more is not taken while writing.
const LINE_CHARS_MAX: usize = 16_000;

/// What the person did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// Finished a line.
    Line(String),
    /// Is writing one.
    Writing,
    /// Will say no more.
    End,
}

/// Where the person is.
pub(crate) enum Terminal {
    /// A pipe or a file.
    Lines(mpsc::Receiver<String>),
    /// A terminal.
    Keys { events: EventStream, written: String, prompt: String, hidden: bool, _raw: Raw },
}

/// The terminal gives single keys while this lives.
pub(crate) struct Raw;

impl Drop for Raw {
    fn drop(&mut self) {
        disable_raw_mode().ok();
    }
}

impl Terminal {
    pub(crate) fn open() -> io::Result<Self> {
        if io::stdin().is_terminal() && io::stdout().is_terminal() {
            enable_raw_mode()?;
            let (written, prompt) = (String::new(), String::new());
            return Ok(Self::Keys { events: EventStream::new(), written, prompt, hidden: false, _raw: Raw });
        }
        let (send, lines) = mpsc::channel(LINES_QUEUED_MAX);
        // A thread of its own: reading standard input can't be called off, and must not hold up the end.
        std::thread::spawn(move || {
            for line in io::stdin().lock().lines().map_while(Result::ok) {
                if send.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self::Lines(lines))
    }

    /// Whether a person can be asked.
    pub(crate) fn is_person(&self) -> bool {
        matches!(self, Self::Keys { .. })
    }

    /// What the person does next. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Input {
        match self {
            Self::Lines(lines) => lines.recv().await.map_or(Input::End, Input::Line),
            Self::Keys { events, .. } => {
                let event = events.next().await;
                let Some(Ok(event)) = event else { return Input::End };
                let input = self.press(event);
                self.draw("").ok();
                input
            }
        }
    }

    fn press(&mut self, event: Event) -> Input {
        let Self::Keys { written, .. } = self else { return Input::Writing };
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => match key.code {
                KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => return Input::End,
                KeyCode::Char('u') if key.modifiers.contains(KeyModifiers::CONTROL) => written.clear(),
                KeyCode::Char(c) if written.len() < LINE_CHARS_MAX => written.push(c),
                KeyCode::Backspace => {
                    written.pop();
                }
                KeyCode::Enter => return Input::Line(std::mem::take(written)),
                _ => {}
            },
            Event::Paste(text) if written.len() + text.len() < LINE_CHARS_MAX => written.push_str(&text),
            _ => {}
        }
        Input::Writing
    }

    /// Asks for one line; what is written is not shown if it is `hidden`. `None`: the person will say no more.
    pub(crate) async fn ask(&mut self, question: &str, hide: bool) -> Option<String> {
        self.set_prompt(question);
        if let Self::Keys { hidden, .. } = self {
            *hidden = hide;
        }
        let answer = loop {
            match self.next().await {
                Input::Line(line) => break Some(line.trim().to_owned()),
                Input::Writing => {}
                Input::End => break None,
            }
        };
        if let Self::Keys { hidden, .. } = self {
            *hidden = false;
        }
        self.set_prompt("");
        answer
    }

    /// Shows a line above the one being written.
    pub(crate) fn show(&mut self, line: &str) {
        let line = harmless(line);
        match self {
            Self::Lines(_) => {
                let mut out = io::stdout().lock();
                writeln!(out, "{line}").and_then(|()| out.flush()).ok();
            }
            // Nobody sees an error of a terminal that is gone.
            Self::Keys { .. } => self.draw(&format!("{line}\r\n")).unwrap_or_default(),
        }
    }

    /// What stands before the line being written.
    pub(crate) fn set_prompt(&mut self, text: &str) {
        if let Self::Keys { prompt, .. } = self
            && prompt != text
        {
            *prompt = harmless(text);
            self.draw("").ok();
        }
    }

    fn draw(&self, above: &str) -> io::Result<()> {
        let Self::Keys { written, prompt, hidden, .. } = self else { return Ok(()) };
        // Some terminals say 0.
        let columns = size().ok().map(|(columns, _)| usize::from(columns)).filter(|columns| *columns > 0).unwrap_or(80);
        let written = if *hidden { "" } else { written.as_str() };
        // Of a long line one sees its end.
        let room = columns.saturating_sub(prompt.chars().count() + 1);
        let skip = written.chars().count().saturating_sub(room);
        let seen: String = written.chars().skip(skip).collect();
        let mut out = io::stdout().lock();
        queue!(
            out,
            cursor::MoveToColumn(0),
            Clear(ClearType::CurrentLine),
            Print(above),
            Print(prompt),
            Print(harmless(&seen))
        )?;
        out.flush()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if self.is_person() {
            // The shell's prompt starts on a line of its own.
            let mut out = io::stdout().lock();
            queue!(out, cursor::MoveToColumn(0), Clear(ClearType::CurrentLine)).and_then(|()| out.flush()).ok();
        }
    }
}

/// Without what would move the cursor, change colours or otherwise command the reader's terminal: others wrote this.
fn harmless(text: &str) -> String {
    let reorders = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars()
        .map(|c| match c {
            '\n' => '⏎',
            '\t' => ' ',
            c if c.is_control() || reorders(c) => '\u{fffd}',
            c => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_write_cannot_command_the_terminal() {
        assert_eq!(harmless("a\x1b[2Jb\r\u{9b}31m\u{202e}c\nd\te"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}31m\u{fffd}c⏎d e");
        assert_eq!(harmless("grüße 👋🏽"), "grüße 👋🏽");
    }
}
