//! Bars, for eyes: on standard error where that is a terminal. A pipe sees nothing of them.

use std::{io::IsTerminal as _, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::Output;

/// How often one is drawn, in a second.
const DRAWN: u8 = 5;
/// Between two times.
pub(super) const PAUSE: Duration = Duration::from_millis(1000 / DRAWN as u64);

/// One for work whose extent isn't known.
pub(super) fn spinner() -> ProgressBar {
    styled(ProgressBar::new_spinner(), "{spinner} {msg}")
}

/// One for `length` bytes, or for bytes without end; none where what is written goes `to` the same terminal.
pub(super) fn bytes(length: Option<u64>, to: &Output) -> ProgressBar {
    if matches!(to, Output::Standard(_)) && std::io::stdout().is_terminal() {
        return ProgressBar::hidden();
    }
    let target = ProgressDrawTarget::stderr_with_hz(DRAWN);
    match length {
        Some(length) => styled(
            ProgressBar::with_draw_target(Some(length), target),
            "{bar:30} {bytes} of {total_bytes}, {binary_bytes_per_sec}, {eta} to go",
        ),
        None => {
            styled(ProgressBar::with_draw_target(None, target), "{spinner} {bytes}, {binary_bytes_per_sec}, {elapsed}")
        }
    }
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
