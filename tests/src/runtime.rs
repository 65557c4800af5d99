//! What this machine has, and what is skipped for want of it.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// Whether absence of a runtime is a failure (`CI=true`) rather than a reason to skip.
#[must_use]
pub fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value.eq_ignore_ascii_case("true") || value == "1")
}

/// Says aloud that `suite` does not run here, and why. In CI that is a failure.
///
/// # Panics
/// With `CI=true`: a suite that cannot run there is a suite nobody runs.
#[expect(clippy::print_stderr, reason = "a skipped suite must be seen by whoever runs the tests")]
pub fn skip(suite: &str, reason: &str) {
    assert!(!in_ci(), "{suite} cannot run, and CI=true forbids skipping it: {reason}");
    eprintln!("SKIPPED {suite}: {reason}");
}

/// Whether `program` can be started at all.
#[must_use]
pub fn has_program(program: &str, probe: &str) -> bool {
    let probed = Command::new(program).arg(probe).stdout(Stdio::null()).stderr(Stdio::null()).status();
    probed.is_ok_and(|status| status.success())
}

/// Rests between two looks at a foreign process, which tells nobody when it is done.
#[expect(clippy::disallowed_methods, reason = "Apache Kafka can only be asked again")]
pub fn breathe() {
    std::thread::sleep(std::time::Duration::from_millis(20));
}

/// Cargo's target folder, where everything fetched or built by the suites is kept.
///
/// # Errors
/// When the test's executable does not lie inside a target folder and `CARGO_TARGET_DIR` is not set either.
pub fn target_dir() -> Result<PathBuf> {
    let exe = std::env::current_exe().context("finding the test's own executable")?;
    // Cargo marks the folder it owns with a cache tag.
    if let Some(dir) = exe.ancestors().find(|dir| dir.join("CACHEDIR.TAG").exists()) {
        return Ok(dir.to_path_buf());
    }
    std::env::var_os("CARGO_TARGET_DIR")
        .map(PathBuf::from)
        .with_context(|| format!("{} lies in no cargo target folder; set CARGO_TARGET_DIR", exe.display()))
}

/// Runs a command to its end and gives back what it printed.
///
/// # Errors
/// When it cannot be started or ends badly; the error carries all it printed.
pub fn run(command: &mut Command) -> Result<Output> {
    let shown = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting {shown}"))?;
    if !output.status.success() {
        bail!(
            "{shown} ended with {}\n--- stdout\n{}\n--- stderr\n{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(output)
}
