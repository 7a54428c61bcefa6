//! A bar on the terminal while records go out; nothing when nobody watches.

use std::io::{IsTerminal as _, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How much of the input has been acknowledged.
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// `size_bytes` of the input, where it is known.
    pub(super) fn new(size_bytes: Option<u64>) -> Self {
        if !stderr().is_terminal() {
            return Self { bar: ProgressBar::hidden() };
        }
        let template = match size_bytes {
            Some(_) => "{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
            None => "{spinner} {bytes}, {bytes_per_sec}",
        };
        let target = ProgressDrawTarget::stderr_with_hz(5);
        let bar = ProgressBar::with_draw_target(size_bytes, target);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar }
    }

    pub(super) fn at(&self, bytes: u64) {
        self.bar.set_position(bytes);
    }

    /// Takes the bar away; the figures follow.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
