//! Paths that lead nowhere because of how they are written: a shell would have expanded them, or they are relative to another
//! directory than was thought.

use super::{Config, Error, layers::Origins, listener::Listener, program::boot_directory};
use std::{io::ErrorKind, path::Path};

/// Finds the first such path. What else can be wrong with a file is told by what reads it.
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
            leads_somewhere(option, path, path.is_relative(), origins)?;
        }
    }
    let options = &layers.options;
    let made =
        [("--pidfile", &options.pidfile), ("--log-file", &options.log_file), ("--cache-dir", &options.cache_dir)];
    for (option, path) in made {
        path.iter().try_for_each(|path| leads_somewhere(option, path, false, &layers.origins))?;
    }
    Ok(())
}

fn leads_somewhere(option: &'static str, path: &Path, must_exist: bool, origins: &Origins) -> Result<(), Error> {
    let text = path.to_string_lossy();
    // Whatever a shell would put in its place, such a file may be there all the same.
    let unexpanded = text.starts_with(['~', '%']) || text.split('/').any(|part| part.starts_with('$'));
    let is_missing = || {
        let error = path.symlink_metadata().err().map(|error| error.kind());
        matches!(error, Some(ErrorKind::NotFound | ErrorKind::InvalidFilename))
    };
    if !(unexpanded || must_exist) || !is_missing() {
        return Ok(());
    }
    let remedy = if unexpanded {
        "is taken as it is written: nothing here expands ~, $VARIABLE or % as a shell or systemd does; write the whole path, as in \
         /home/me/FILE"
            .to_owned()
    } else if path.as_os_str().is_empty() {
        "names no file".to_owned()
    } else {
        let directory = boot_directory().map_err(Error::Directory)?;
        format!(
            "cannot be read: No such file in {}, the working directory, to which relative paths belong; write the whole path",
            directory.display()
        )
    };
    Err(Error::value(option, text, remedy).located(origins))
}
