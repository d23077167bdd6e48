//! Paths that lead nowhere because of how they are written: a shell would have expanded them, or
//! they are relative to another directory than expected.

use super::{Config, error::Error, layers::Origins, listener::Listener, program::boot_directory};
use crate::net::Bind;
use std::{io::ErrorKind, path::Path};

/// Finds the first such path. The code that reads a file reports its other faults.
pub(super) fn check(config: &Config) -> Result<(), Error> {
    let layers = &config.layers;
    for (index, listener) in config.listeners.iter().enumerate() {
        let own = layers.listeners.get(index);
        let origins = own.map_or(&layers.origins, |own| &own.origins);
        let of_routes = listener.routes.iter().enumerate().flat_map(|(route, resolved)| {
            let origins = own.and_then(|own| own.routes.get(route)).map_or(origins, |route| &route.origins);
            Listener::files_of(&resolved.handler).map(move |file| (origins, file))
        });
        let own = Listener::files_of(&listener.handler).chain(listener.tls_files()).map(|file| (origins, file));
        for (origins, (option, path)) in own.chain(of_routes) {
            // For an absolute path, only the origin of the option is missing where the file is
            // read.
            let written = origins.of(option).is_some() && option != "--guest-dir";
            let must = if path.is_relative() || written { Must::Exist } else { Must::Nothing };
            leads_somewhere(option, path, must, origins, config.file())?;
        }
    }
    let options = &layers.options;
    let made =
        [("--pidfile", &options.pidfile), ("--log-file", &options.log_file), ("--cache-dir", &options.cache_dir)];
    for (option, path) in made {
        path.iter().try_for_each(|path| leads_somewhere(option, path, Must::Nothing, &layers.origins, None))?;
    }
    apart(config).map_err(|error| error.located(&layers.origins))
}

/// The pidfile and the log file need paths of their own. A socket or the other file there would
/// look like a file of another program.
fn apart(config: &Config) -> Result<(), Error> {
    fn socket(bind: &Bind) -> Option<&Path> {
        match bind {
            Bind::Unix(path, _) => Some(path.as_ref()),
            Bind::Tcp(_) | Bind::Systemd(_) => None,
        }
    }
    let binds = config.listeners.iter().filter_map(|listener| Some(("--bind", socket(&listener.bind)?)));
    let admin = config.admin.iter().filter_map(|address| Some(("--admin", socket(address.bind())?)));
    let handoff = config.handoff.socket.iter().map(|path| ("--handoff-socket", path.as_ref()));
    let log = config.log.file.iter().map(|path| ("--log-file", path.as_path()));
    let sockets: Vec<(&str, &Path)> = binds.chain(admin).chain(handoff).collect();
    let files = config.pidfile.iter().map(|path| ("--pidfile", path.as_path())).chain(log.clone());
    for (option, path) in files {
        let mut others = sockets.iter().copied().chain(log.clone().filter(|_| option == "--pidfile"));
        if let Some((other, _)) = others.find(|(_, taken)| *taken == path) {
            let remedy = format!("is the path of {other}, too; give each a path of its own");
            return Err(Error::value(option, path.display(), remedy));
        }
    }
    Ok(())
}

/// The condition that a path must meet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Must {
    /// It exists.
    Exist,
    /// It will be created, or the code that reads it reports that it is missing.
    Nothing,
}

fn leads_somewhere(
    option: &'static str,
    path: &Path,
    must: Must,
    origins: &Origins,
    file: Option<&Path>,
) -> Result<(), Error> {
    if must == Must::Nothing && !is_unexpanded(path) {
        return Ok(());
    }
    match missing(path, file) {
        Some(why) => Err(Error::value(option, path.to_string_lossy(), why).located(origins)),
        None => Ok(()),
    }
}

fn is_unexpanded(path: &Path) -> bool {
    let text = path.to_string_lossy();
    text.starts_with(['~', '%']) || text.split('/').any(|part| part.starts_with('$'))
}

/// Why the path does not exist, if it does not. `file` is the configuration file next to which it
/// may have been meant.
pub(super) fn missing(path: &Path, file: Option<&Path>) -> Option<String> {
    let error = path.symlink_metadata().err().map(|error| error.kind());
    if !matches!(error, Some(ErrorKind::NotFound | ErrorKind::InvalidFilename)) {
        return None;
    }
    Some(if is_unexpanded(path) {
        "is used literally: the host does not expand ~, $VARIABLE or %, as a shell or systemd does; write the whole path, as in \
         /home/me/FILE"
            .to_owned()
    } else if path.is_absolute() {
        "cannot be read: No such file or directory".to_owned()
    } else {
        let directory = match boot_directory() {
            Ok(directory) => directory,
            Err(error) => {
                return Some(format!("cannot be found from the working directory ({error}); write the whole path"));
            }
        };
        let beside = file.and_then(Path::parent).map(|directory| directory.join(path)).filter(|path| path.exists());
        let beside = beside.map(|path| format!(" ({} is there, beside the configuration)", path.display()));
        format!(
            "cannot be read: No such file in {}, the working directory, where relative paths start{}; write the whole path",
            directory.display(),
            beside.unwrap_or_default()
        )
    })
}
