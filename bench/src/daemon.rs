//! The daemon as a child process: started, watched, ended, counted.

use std::path::PathBuf;

/// `ringmain` in the folder of this program, or in the one above (tests run
/// from `deps`).
pub(crate) fn beside_this_program() -> Option<PathBuf> {
    let me = std::env::current_exe().ok()?;
    let folders = me.ancestors().skip(1).take(2);
    folders.map(|folder| folder.join("ringmain")).find(|path| path.is_file())
}
