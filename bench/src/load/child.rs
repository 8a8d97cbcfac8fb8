//! The generator as a child of a scenario.

use std::process::{Child, Command, Stdio};

use core_affinity::CoreId;

use super::LoadResult;
use crate::measure::Wrong;

/// A generator that runs.
pub(crate) struct Load {
    child: Option<Child>,
}

/// Starts `ringmain-bench load` with these words, on a core.
pub(crate) fn start(core: Option<CoreId>, words: &[&str]) -> Result<Load, Wrong> {
    let me = std::env::current_exe().map_err(Wrong::fail)?;
    let mut command = Command::new(me);
    command.arg("load").args(words).arg("--json").stdin(Stdio::null());
    if let Some(core) = core {
        command.args(["--core", &core.id.to_string()]);
    }
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    Ok(Load { child: Some(child.map_err(Wrong::fail)?) })
}

impl Load {
    /// Waits for its end.
    pub(crate) fn end(mut self) -> Result<LoadResult, Wrong> {
        let child = self.child.take().expect("it is waited for once");
        let output = child.wait_with_output().map_err(Wrong::fail)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Wrong::Failed(format!("the load generator failed: {said}")));
        }
        serde_json::from_slice(&output.stdout).map_err(Wrong::fail)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Harmless when it is gone.
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
