//! Keeps clients from filling the log: a few lines a second, the rest counted.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

const WINDOW: Duration = Duration::from_secs(1);
const LINES_PER_WINDOW: u32 = 10;

/// Longest piece of a client's text that is logged, in characters.
const TEXT_CHARS_MAX: usize = 64;

#[derive(Debug, Default)]
pub(super) struct LogLimit {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    window_began: Option<Instant>,
    lines: u32,
    suppressed: u64,
}

impl LogLimit {
    /// Whether a line may be logged at `now`; if so, how many were left out before it.
    pub(super) fn admit(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock();
        if state.window_began.is_none_or(|began| now.saturating_duration_since(began) >= WINDOW) {
            state.window_began = Some(now);
            state.lines = 0;
        }
        if state.lines == LINES_PER_WINDOW {
            state.suppressed += 1;
            return None;
        }
        state.lines += 1;
        Some(std::mem::take(&mut state.suppressed))
    }
}

/// A client's text, safe to log: escaped, and not long.
pub(super) fn escaped(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_the_next_window_says_how_much() {
        let limit = LogLimit::default();
        let start = Instant::now();
        let admitted = (0..100).filter(|_| limit.admit(start).is_some()).count();
        assert_eq!(admitted, 10);
        assert_eq!(limit.admit(start + WINDOW), Some(90));
        assert_eq!(limit.admit(start + WINDOW), Some(0));
    }

    #[test]
    fn control_characters_never_reach_the_log() {
        assert_eq!(escaped("a\n\u{1b}[31mb"), "a\\n\\u{1b}[31mb");
        assert_eq!(escaped(&"x".repeat(1000)).len(), 64);
    }
}
