//! Clients from PyPI, installed once into an environment of their own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::Result;

use crate::runtime;

/// What is missing on this machine to make the environment, if anything.
#[must_use]
pub fn missing() -> Option<String> {
    let has = runtime::run(Command::new("python3").args(["-c", "import venv, ensurepip"])).is_ok();
    (!has).then(|| "no `python3` with venv on the path".to_owned())
}

/// The folder of the environment, made at the first call: all that `interop/python/requirements.txt` names is there.
///
/// # Errors
/// When Python or PyPI fail; the error carries what they said.
pub fn environment() -> Result<PathBuf> {
    // Several tests want it; those that wait find it made.
    static MADE: Mutex<()> = Mutex::new(());
    let _making = MADE.lock().map_err(|_| anyhow::anyhow!("another test could not make the environment"))?;
    let wanted = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop").join("python").join("requirements.txt");
    let requirements = std::fs::read_to_string(&wanted)?;
    let environment = runtime::target_dir()?.join("interop").join("python");
    let made = environment.join("requirements.txt");
    if std::fs::read_to_string(&made).is_ok_and(|installed| installed == requirements) {
        return Ok(environment);
    }
    runtime::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    let pip = environment.join("bin").join("python");
    runtime::run(Command::new(pip).args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(wanted))?;
    std::fs::write(made, requirements)?;
    Ok(environment)
}
