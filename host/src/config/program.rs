//! The name and directory by which this program was started, and from them the command for a
//! successor.

use super::error::Error;
use crate::handoff::start::StartCommand;
use std::{
    env,
    ffi::OsString,
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// The command for a successor: this program by the path by which it was started, symbolic links
/// included. A link that points to another release by then starts that one (docs/restart.md).
pub(super) fn start_command(words: Option<&str>) -> Result<StartCommand, Error> {
    let directory = match env::var_os("APP_ROOT") {
        Some(root) => app_root(root.into())?,
        None => boot_directory().map_err(Error::Directory)?,
    };
    let typed = words;
    let mut words: Vec<OsString> = match words {
        Some(words) => shell_words::split(words)
            .map_err(|error| Error::value("--start-command", words, format!("is not a list of words ({error})")))?
            .into_iter()
            .map(OsString::from)
            .collect(),
        None => without_take_over(env::args_os()),
    };
    if words.is_empty() {
        return Err(Error::value("--start-command", "", "has no words; leave it out to start this program again"));
    }
    let arguments = words.split_off(1);
    let name = words.swap_remove(0);
    let program = absolute(Path::new(&name)).ok_or_else(|| match typed {
        Some(typed) => Error::value(
            "--start-command",
            typed,
            format!("has a program, {name:?}, that is not in PATH; give its path"),
        ),
        None => Error::Program(name),
    })?;
    Ok(StartCommand { program, arguments, directory })
}

/// The directory in which every later generation starts. It is checked now, not only when it is
/// needed.
fn app_root(root: PathBuf) -> Result<PathBuf, Error> {
    let wrong = if root.is_relative() {
        "is not an absolute path"
    } else if !root.is_dir() {
        "is not a directory that this user can access"
    } else {
        return Ok(root);
    };
    Err(Error::value(
        "APP_ROOT",
        root.display(),
        format!("{wrong}, and a successor would start there; set one, or unset it"),
    ))
}

/// The working directory by the path through which it was entered, if the shell provides that.
pub(super) fn boot_directory() -> io::Result<PathBuf> {
    let real = env::current_dir()?;
    let pwd = env::var_os("PWD").map(PathBuf::from).filter(|path| path.is_absolute());
    Ok(pwd.filter(|pwd| pwd.canonicalize().is_ok_and(|pwd| pwd == real)).unwrap_or(real))
}

/// The absolute path of a program as a shell finds it. Neither its links nor those of the directory
/// are resolved.
pub(super) fn absolute(name: &Path) -> Option<PathBuf> {
    let base = boot_directory().ok()?;
    if name.components().count() > 1 || name.starts_with(".") {
        return Some(base.join(name));
    }
    let executable =
        |path: &PathBuf| path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    let places = env::var_os("PATH")?;
    env::split_paths(&places).map(|place| base.join(place).join(name)).find(executable)
}

/// A typed command line without `--take-over`: the successor inherits its channel instead.
pub(super) fn without_take_over(mut words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        if word == "--take-over" {
            words.next();
        } else if !word.as_encoded_bytes().starts_with(b"--take-over=") {
            kept.push(word);
        }
    }
    kept
}
