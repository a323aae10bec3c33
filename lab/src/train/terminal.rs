//! The terminal under Burn's dashboard.

use std::io;

use crossterm::cursor::Show;
use crossterm::event::DisableMouseCapture;
use crossterm::execute;
use crossterm::terminal::{LeaveAlternateScreen, disable_raw_mode};

/// The panic by which the dashboard ends a training that the user kills.
pub(super) const KILLED: &str = "Killing training from user input.";

/// Makes Ctrl-C send its signal, once the dashboard has set the terminal up.
///
/// The dashboard puts the terminal in raw mode, where Ctrl-C is a key like any other, and ignores that key.
pub(super) fn keep_ctrl_c() {
    #[cfg(unix)]
    {
        use rustix::stdio::stdin;
        use rustix::termios::{
            LocalModes, OptionalActions, SpecialCodeIndex, tcgetattr, tcsetattr,
        };
        use std::time::{Duration, Instant};

        // A thread of the dashboard's own sets the terminal up.
        let deadline = Instant::now() + Duration::from_secs(5);
        while let Ok(mut modes) = tcgetattr(stdin())
            && Instant::now() < deadline
        {
            if !modes.local_modes.contains(LocalModes::ICANON) {
                modes.local_modes |= LocalModes::ISIG;
                // No signal but Ctrl-C's: the others would leave the terminal as it is.
                for key in [SpecialCodeIndex::VSUSP, SpecialCodeIndex::VQUIT] {
                    modes.special_codes[key] = libc::_POSIX_VDISABLE;
                }
                // If the terminal refuses, `q` still stops the training.
                let _ = tcsetattr(stdin(), OptionalActions::Now, &modes);
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Gives the terminal back as it was before the dashboard.
pub fn restore() {
    // There is nothing else to try if that fails.
    let _ = disable_raw_mode();
    let _ = execute!(
        io::stdout(),
        DisableMouseCapture,
        LeaveAlternateScreen,
        Show
    );
}
