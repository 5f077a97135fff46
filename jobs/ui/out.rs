//! Standard output whose reader may go away: `assay features | head`.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};

/// `println!` that gives an error where that panics, and none when the reader has gone: he has read enough.
macro_rules! say {
    ($($part:tt)*) => {
        $crate::ui::print(format_args!("{}\n", format_args!($($part)*)))
    };
}

/// The text as it is, without a line's end.
pub fn print(text: Arguments<'_>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_fmt(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
