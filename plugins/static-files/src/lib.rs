//! Serves the files of a granted directory over HTTP/1.1: README.md describes how, and its limits.
//!
//! This file has the conversation. `request` reads a request, `target` and `file` find its file,
//! `conditions` and `ranges` decide which part of it to send, and `response` sends it.

mod conditions;
mod content_type;
mod file;
mod ranges;
mod request;
mod response;
mod status;
mod target;

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use file::Found;
use ranges::Selection;
use request::{Method, Request, Unread};
use response::Response;
use status::Status;
use target::Target;
use uninterruptible_guest::{Connection, Ready};

/// The path of the served directory in guests, unless an argument names another one.
const ROOT: &str = "/srv";

#[uninterruptible_guest::handler]
fn handle_request(connection: Connection) -> io::Result<()> {
    serve(connection, &std::env::args().nth(1).map_or_else(|| PathBuf::from(ROOT), PathBuf::from))
}

fn serve(mut connection: Connection, root: &Path) -> io::Result<()> {
    loop {
        let request = match Request::read(&mut connection) {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(()),
            Err(Unread::Refused(status)) => {
                return Response::refusal(status).closing().send(&mut connection, Method::Get);
            }
            Err(Unread::Broken(error)) => return Err(error),
        };
        let mut response = respond(&request, root);
        let stays = request.stays_open() && !connection.is_draining();
        if !stays {
            response = response.closing();
        } else if request.is_old() {
            response = response.staying();
        }
        response.send(&mut connection, request.method)?;
        // When the host drains, an idle client is closed, and a request that has arrived is
        // answered.
        if !stays || (connection.ready() == Ready::Draining && !connection.has_arrived()) {
            return Ok(());
        }
    }
}

fn respond(request: &Request, root: &Path) -> Response {
    if request.method == Method::Other {
        return Response::refusal(Status::MethodNotAllowed).with("Allow", "GET, HEAD");
    }
    found(request, root).unwrap_or_else(Response::refusal)
}

fn found(request: &Request, root: &Path) -> Result<Response, Status> {
    let target = Target::parse(&request.target)?;
    let file = match Found::beneath(root, &target).map_err(|error| refused(root, &target, &error))? {
        Found::File(file) => file,
        // The relative links of its page are right only if the path ends with a slash.
        Found::Directory => {
            return Ok(Response::refusal(Status::MovedPermanently).with("Location", target.as_directory()));
        }
    };
    if let Some(status) = conditions::decide(request, &file) {
        return Ok(Response::without_content(status).of(&file));
    }
    // Only GET has ranges.
    let range = request.headers.one("range").filter(|_| request.method == Method::Get);
    Ok(
        match range.filter(|_| conditions::range_applies(request, &file)).map(|range| Selection::of(range, file.length))
        {
            None | Some(Selection::Whole) => Response::whole(file),
            Some(Selection::Parts(parts)) => Response::parts(file, parts),
            Some(Selection::Nothing) => {
                Response::refusal(Status::RangeNotSatisfiable).with("Content-Range", format!("bytes */{}", file.length))
            }
        },
    )
}

/// The status for a file that cannot be opened. A fault of the host is logged.
fn refused(root: &Path, target: &Target<'_>, error: &io::Error) -> Status {
    let (culprit, error) = match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename => match fs::metadata(root) {
            Ok(_) => return Status::NotFound,
            // No file is found if the directory was not granted.
            Err(error) => (root.to_owned(), error.to_string()),
        },
        ErrorKind::PermissionDenied => return Status::Forbidden,
        _ => (root.join(target.path()), error.to_string()),
    };
    eprintln!("{} cannot be read: {error}", culprit.display());
    Status::InternalServerError
}

#[cfg(test)]
mod tests;
