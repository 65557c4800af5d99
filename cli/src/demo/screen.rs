//! What the audience sees.

use std::fmt;
use std::io::Write;

/// Prints a line for whoever watches.
macro_rules! say {
    () => { $crate::demo::screen::line(format_args!("")) };
    ($($what:tt)*) => { $crate::demo::screen::line(format_args!($($what)*)) };
}
pub(super) use say;

const WIDTH: usize = 60;

/// See [`say!`].
pub(super) fn line(what: fmt::Arguments<'_>) {
    // A closed pipe ends the audience, not the demo: the exit code still tells whether the proof holds.
    let _ = writeln!(std::io::stdout().lock(), "{what}");
}

/// A title between two rules, with air above it.
pub(super) fn banner(title: &str) {
    let rule = "=".repeat(WIDTH);
    say!("\n{rule}\n{title}\n{rule}");
}
