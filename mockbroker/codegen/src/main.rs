//! Writes the broker's wire codec from the facts of Kafka's message schemas.
//!
//! ```text
//! rehearsal-mockbroker-codegen extract <kafka-clients.jar>   the jar's schemas → codegen/schemas.json (needs `unzip`)
//! rehearsal-mockbroker-codegen generate                      schemas.json → src/wire/generated (needs `rustfmt`)
//! rehearsal-mockbroker-codegen check                         fails when src/wire/generated is not what `generate` writes
//! ```

mod emit;
mod schema;

use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::{env, fs};

fn main() -> ExitCode {
    match run(&env::args().skip(1).collect::<Vec<_>>()) {
        Ok(said) => {
            let _ = writeln!(std::io::stdout(), "{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<String> {
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["extract", jar] => extract(Path::new(jar)),
        ["generate"] => generate(),
        ["check"] => check(),
        _ => bail!("usage: extract <kafka-clients.jar> | generate | check"),
    }
}

fn extract(jar: &Path) -> Result<String> {
    let unzip = Command::new("unzip")
        .arg("-p")
        .arg(jar)
        .arg("common/message/*.json")
        .stderr(Stdio::inherit())
        .output()
        .context("running unzip")?;
    if !unzip.status.success() {
        bail!("unzip could not read the schemas from {}", jar.display());
    }
    let messages = schema::extract(&String::from_utf8(unzip.stdout)?)?;
    let source = jar.file_stem().unwrap_or_default().to_string_lossy();
    fs::write(facts_path(), schema::to_text(&source, &messages)?)?;
    Ok(format!("{} messages written to {}", messages.len(), facts_path().display()))
}

fn generate() -> Result<String> {
    let files = generated()?;
    let folder = generated_path();
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    for (name, text) in &files {
        fs::write(folder.join(name), text)?;
    }
    Ok(format!("{} files written to {}", files.len(), folder.display()))
}

fn check() -> Result<String> {
    let wanted = generated()?;
    let found = fs::read_dir(generated_path())?
        .map(|entry| {
            let entry = entry?;
            Ok((entry.file_name().to_string_lossy().into_owned(), fs::read_to_string(entry.path())?))
        })
        .collect::<Result<BTreeMap<_, _>>>()?;
    let differing = wanted.keys().chain(found.keys()).find(|&name| wanted.get(name) != found.get(name));
    match differing {
        Some(name) => {
            bail!("src/wire/generated/{name} is not what `generate` writes from schemas.json; run `generate`")
        }
        None => Ok(format!("{} files are as generated", found.len())),
    }
}

/// Every generated file by name, formatted.
fn generated() -> Result<BTreeMap<String, String>> {
    let facts = schema::from_text(&fs::read_to_string(facts_path())?)?;
    emit::files(&facts)?.into_iter().map(|(name, text)| Ok((name, rustfmt(&text)?))).collect()
}

fn rustfmt(text: &str) -> Result<String> {
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2024", "--config-path"])
        .arg(crate_path().join("../.."))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("running rustfmt")?;
    let mut input = child.stdin.take().context("rustfmt without stdin")?;
    // It reads everything before it writes anything.
    input.write_all(text.as_bytes())?;
    drop(input);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("rustfmt refused:\n{text}");
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn crate_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn facts_path() -> PathBuf {
    crate_path().join("schemas.json")
}

fn generated_path() -> PathBuf {
    crate_path().join("../src/wire/generated")
}
