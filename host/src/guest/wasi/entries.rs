//! Operations on names beneath a directory: create, remove, rename, link, stat. The kernel keeps
//! each path inside, as for an open (`sandboxed_dir`). An operation that changes a name resolves
//! the directory that holds it, and never follows the name itself.

use crate::component::sandboxed_dir::resolve;
use rustix::{
    fs::{AtFlags, Mode, OFlags, Stat, fstat, linkat, mkdirat, readlinkat, renameat, symlinkat, unlinkat},
    io::Errno,
};
use std::{fs::File, io, os::fd::OwnedFd};

/// A path and the directory in which it begins.
pub(in crate::guest) type Path<'a> = (&'a File, &'a str);

/// Opens the directory that holds a name. Returns it with the name and the slashes after it. The
/// callers' system calls follow neither a link nor `..` there.
fn held<'a>(dir: &File, path: &'a str) -> io::Result<(OwnedFd, &'a str)> {
    if path.starts_with('/') {
        return Err(Errno::PERM.into());
    }
    let (above, name) = match path.trim_end_matches('/').rfind('/') {
        Some(slash) => path.split_at(slash + 1),
        None => (".", path),
    };
    Ok((resolve(dir, above, OFlags::PATH | OFlags::DIRECTORY)?, name))
}

/// Makes a directory.
///
/// # Errors
///
/// Those of `mkdir(2)`; "not permitted" if the path leads out. The same holds for all functions
/// below.
pub(in crate::guest) fn create_directory(dir: &File, path: &str) -> io::Result<()> {
    let (above, name) = held(dir, path)?;
    Ok(mkdirat(above, name, Mode::from_raw_mode(0o777))?)
}

/// Removes an empty directory.
pub(in crate::guest) fn remove_directory(dir: &File, path: &str) -> io::Result<()> {
    let (above, name) = held(dir, path)?;
    Ok(unlinkat(above, name, AtFlags::REMOVEDIR)?)
}

/// Removes the name of a file, a link or anything but a directory.
pub(in crate::guest) fn unlink(dir: &File, path: &str) -> io::Result<()> {
    let (above, name) = held(dir, path)?;
    Ok(unlinkat(above, name, AtFlags::empty())?)
}

/// Renames; replaces an existing target.
pub(in crate::guest) fn rename(from: Path<'_>, to: Path<'_>) -> io::Result<()> {
    let (old, old_name) = held(from.0, from.1)?;
    let (new, new_name) = held(to.0, to.1)?;
    Ok(renameat(old, old_name, new, new_name)?)
}

/// Gives a file a second name. A symbolic link is not followed.
pub(in crate::guest) fn link(from: Path<'_>, to: Path<'_>) -> io::Result<()> {
    if from.1.ends_with('/') {
        // With a trailing slash `linkat(2)` would follow a link. The target must then be a
        // directory, which cannot be linked.
        resolve(from.0, from.1, OFlags::PATH | OFlags::DIRECTORY)?;
        return Err(Errno::PERM.into());
    }
    let (old, old_name) = held(from.0, from.1)?;
    let (new, new_name) = held(to.0, to.1)?;
    Ok(linkat(old, old_name, new, new_name, AtFlags::empty())?)
}

/// Makes a symbolic link. Rejects absolute targets: other programs on this machine would follow
/// them out of the directory.
pub(in crate::guest) fn symlink(target: &str, dir: &File, path: &str) -> io::Result<()> {
    if target.starts_with('/') {
        return Err(Errno::PERM.into());
    }
    let (above, name) = held(dir, path)?;
    Ok(symlinkat(target, above, name)?)
}

/// The target of a symbolic link.
pub(in crate::guest) fn read_link(dir: &File, path: &str) -> io::Result<Vec<u8>> {
    let link = resolve(dir, path, OFlags::PATH | OFlags::NOFOLLOW)?;
    match readlinkat(link, "", Vec::new()) {
        Ok(target) => Ok(target.into_bytes()),
        // The kernel's error for a descriptor that is not a link.
        Err(Errno::NOENT) => Err(Errno::INVAL.into()),
        Err(error) => Err(error.into()),
    }
}

/// The status of a file.
pub(in crate::guest) fn status(dir: &File, path: &str, follow: bool) -> io::Result<Stat> {
    let mut look = OFlags::PATH;
    look.set(OFlags::NOFOLLOW, !follow);
    Ok(fstat(resolve(dir, path, look)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink as link_at};

    fn refused<T: std::fmt::Debug>(answer: io::Result<T>) -> Errno {
        Errno::from_io_error(&answer.unwrap_err()).unwrap()
    }

    /// A granted directory, and one beside it that links lead to.
    fn tree() -> (tempfile::TempDir, File) {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("inner");
        fs::create_dir_all(inner.join("deep")).unwrap();
        fs::create_dir(outer.path().join("other")).unwrap();
        fs::write(outer.path().join("other/secret"), "").unwrap();
        fs::write(inner.join("file"), "").unwrap();
        link_at("../other", inner.join("out")).unwrap();
        link_at("../other/secret", inner.join("secret")).unwrap();
        link_at("/proc/self/root", inner.join("root")).unwrap();
        let dir = File::open(&inner).unwrap();
        (outer, dir)
    }

    #[test]
    fn a_path_out_of_the_directory_is_rejected() {
        let (outer, dir) = tree();
        for path in ["out/new", "../new", "deep/../../new", "/new", "/", "root/tmp/new", "/etc/new"] {
            assert_eq!(refused(create_directory(&dir, path)), Errno::PERM, "{path}");
            assert_eq!(refused(symlink("x", &dir, path)), Errno::PERM, "{path}");
            assert_eq!(refused(rename((&dir, "file"), (&dir, path))), Errno::PERM, "{path}");
            assert_eq!(refused(link((&dir, "file"), (&dir, path))), Errno::PERM, "{path}");
        }
        for path in ["out/secret", "../other/secret", "deep/../../other/secret", "/etc/passwd", "root/etc/passwd"] {
            assert_eq!(refused(unlink(&dir, path)), Errno::PERM, "{path}");
            assert_eq!(refused(remove_directory(&dir, path)), Errno::PERM, "{path}");
            assert_eq!(refused(rename((&dir, path), (&dir, "taken"))), Errno::PERM, "{path}");
            assert_eq!(refused(link((&dir, path), (&dir, "taken"))), Errno::PERM, "{path}");
            assert_eq!(refused(status(&dir, path, true)), Errno::PERM, "{path}");
            assert_eq!(refused(read_link(&dir, path)), Errno::PERM, "{path}");
        }
        assert_eq!(refused(status(&dir, "secret", true)), Errno::PERM);
        assert_eq!(refused(symlink("/etc/passwd", &dir, "absolute")), Errno::PERM);
        // A trailing slash would make the kernel follow a link.
        for path in ["out/", "out//", "secret/", "root/"] {
            assert_eq!(refused(link((&dir, path), (&dir, "taken"))), Errno::PERM, "{path}");
            assert_eq!(refused(read_link(&dir, path)), Errno::PERM, "{path}");
            assert_eq!(refused(status(&dir, path, false)), Errno::PERM, "{path}");
            assert_eq!(refused(unlink(&dir, path)), Errno::NOTDIR, "{path}");
            assert_eq!(refused(remove_directory(&dir, path)), Errno::NOTDIR, "{path}");
            assert_eq!(refused(create_directory(&dir, path)), Errno::EXIST, "{path}");
            assert_eq!(refused(rename((&dir, path), (&dir, "taken"))), Errno::NOTDIR, "{path}");
        }
        // `.` and `..` cannot be created or removed.
        for path in ["..", "../", "deep/../..", "."] {
            assert_eq!(refused(create_directory(&dir, path)), Errno::EXIST, "{path}");
            refused(unlink(&dir, path));
            refused(remove_directory(&dir, path));
            refused(rename((&dir, path), (&dir, "taken")));
            refused(rename((&dir, "deep"), (&dir, path)));
            refused(link((&dir, path), (&dir, "taken")));
        }
        assert!(outer.path().join("other/secret").exists());
        assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 2);
        assert_eq!(fs::read_dir(outer.path().join("other")).unwrap().count(), 1);
    }

    #[test]
    fn operations_inside_the_directory_succeed() {
        let (outer, dir) = tree();
        let inner = outer.path().join("inner");
        create_directory(&dir, "deep/new/").unwrap();
        symlink("../file", &dir, "deep/up").unwrap();
        assert_eq!(read_link(&dir, "deep/up").unwrap(), b"../file");
        assert_eq!(read_link(&dir, "secret").unwrap(), b"../other/secret");
        assert_eq!(refused(read_link(&dir, "file")), Errno::INVAL);
        link((&dir, "file"), (&dir, "deep/new/hard")).unwrap();
        link((&dir, "deep/up"), (&dir, "link")).unwrap();
        assert!(fs::symlink_metadata(inner.join("link")).unwrap().is_symlink(), "it was followed");
        rename((&dir, "deep/new/hard"), (&dir, "moved")).unwrap();
        assert_eq!(status(&dir, "moved", false).unwrap().st_ino, status(&dir, "deep/../file", true).unwrap().st_ino);
        assert_eq!(refused(remove_directory(&dir, "deep")), Errno::NOTEMPTY);
        assert_eq!(refused(unlink(&dir, "deep")), Errno::ISDIR);
        remove_directory(&dir, "deep/new").unwrap();
        unlink(&dir, "deep/up").unwrap();
        remove_directory(&dir, "deep/").unwrap();
        for path in ["", "absent"] {
            assert_eq!(refused(unlink(&dir, path)), Errno::NOENT, "{path:?}");
            assert_eq!(refused(status(&dir, path, true)), Errno::NOENT, "{path:?}");
        }
    }
}
