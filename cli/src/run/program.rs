//! Finds the program a command names, and says what cannot be carried, before it runs.

use anyhow::{Context, bail, ensure};
use object::elf;
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use object::{Endianness, elf::FileHeader64};
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A program that can be carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Its file: the interpreter of a script.
    pub(super) program: PathBuf,
    /// What comes before its arguments: the script.
    pub(super) before: Vec<OsString>,
}

/// Finds what a shell would run.
///
/// # Errors
/// There is no such program, or it cannot be carried; in one sentence.
pub(super) fn find(name: &Path) -> anyhow::Result<Found> {
    let file = look_up(name).with_context(|| format!("there is no program '{}'", name.display()))?;
    resolve(file, 0)
}

/// The file of this name, by the path a shell would search unless there is a slash in it.
fn look_up(name: &Path) -> Option<PathBuf> {
    let is_program =
        |file: &PathBuf| file.metadata().is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0);
    if name.components().count() > 1 || name.is_absolute() {
        return Some(name.to_owned()).filter(is_program);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(is_program)
}

/// As Linux, which follows so many scripts that name scripts.
const SCRIPTS_MAX: u32 = 4;

fn resolve(file: PathBuf, depth: u32) -> anyhow::Result<Found> {
    let mode = file.metadata().with_context(|| format!("reading {}", file.display()))?.permissions().mode();
    // S_ISUID and S_ISGID: the loader preloads nothing there.
    ensure!(
        mode & 0o6000 == 0,
        "{} runs with its owner's rights (setuid), so nothing can be preloaded into it",
        file.display()
    );
    let bytes = std::fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
    if let Some(rest) = bytes.strip_prefix(b"#!") {
        ensure!(depth < SCRIPTS_MAX, "{} is a script run by scripts only", file.display());
        let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
        return script(file, &String::from_utf8_lossy(line), depth);
    }
    ensure!(
        bytes.starts_with(b"\x7fELF"),
        "{} is neither a program of this system nor a script that names its interpreter in a first line `#!…`",
        file.display()
    );
    check(&file, &bytes)?;
    Ok(Found { program: file, before: Vec::new() })
}

/// A script is run by its interpreter, found as `env` finds it where `env` is named: `env` would start it anew, and one
/// process is what is carried.
fn script(file: PathBuf, line: &str, depth: u32) -> anyhow::Result<Found> {
    let line = line.trim();
    let (interpreter, argument) = match line.split_once(char::is_whitespace) {
        Some((interpreter, argument)) => (interpreter, Some(argument.trim())),
        None => (line, None),
    };
    let (interpreter, argument) = match argument {
        Some(argument) if Path::new(interpreter).ends_with("env") => {
            let words = argument.strip_prefix("-S").unwrap_or(argument).trim();
            match words.split_once(char::is_whitespace) {
                Some((interpreter, argument)) => (interpreter, Some(argument.trim())),
                None => (words, None),
            }
        }
        _ => (interpreter, argument),
    };
    let Some(program) = look_up(Path::new(interpreter)) else {
        bail!("'{interpreter}', which {} names as its interpreter, is not there", file.display())
    };
    let mut found = resolve(program, depth + 1)?;
    found.before.extend(argument.map(OsString::from));
    found.before.push(file.into());
    Ok(found)
}

/// Whether something can be preloaded into an ELF file, and is then asked for what matters.
fn check(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let name = file.display();
    let unreadable = || format!("{name} is no program for x86-64");
    let header = FileHeader64::<Endianness>::parse(bytes).with_context(unreadable)?;
    let endian = header.endian().with_context(unreadable)?;
    ensure!(header.e_machine(endian) == elf::EM_X86_64, unreadable());
    ensure!(
        !is_go(header, endian, bytes),
        "{name} is a Go program: it makes system calls past the C library, where the simulation is preloaded"
    );
    let programs = header.program_headers(endian, bytes).with_context(unreadable)?;
    let interpreter = programs.iter().find_map(|program| program.interpreter(endian, bytes).ok().flatten());
    let Some(interpreter) = interpreter else {
        bail!("{name} is linked statically: it has its C library inside, and nothing can be preloaded into it")
    };
    let interpreter = String::from_utf8_lossy(interpreter);
    ensure!(Path::new(&*interpreter).is_file(), "'{interpreter}', which {name} names as its interpreter, is not there");
    ensure!(
        interpreter.contains("ld-linux"),
        "{name} is linked with another C library than glibc ({interpreter}), and the simulation stands on glibc"
    );
    Ok(())
}

fn is_go(header: &FileHeader64<Endianness>, endian: Endianness, bytes: &[u8]) -> bool {
    let Ok(sections) = header.sections(endian, bytes) else { return false };
    let of_go = [&b".go.buildinfo"[..], b".note.go.buildid", b".gopclntab"];
    sections.iter().any(|section| {
        section.sh_type(endian) != elf::SHT_NULL
            && sections.section_name(endian, section).is_ok_and(|name| of_go.contains(&name))
    })
}
