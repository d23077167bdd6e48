//! Says hello by HTTP, and sends back posted bodies, with wstd.

use wstd::http::{Body, Error, Method, Request, Response, StatusCode};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => Ok(Response::new("hello from wstd\n".to_owned().into())),
        (&Method::POST, "/") => Ok(Response::new(request.into_body())),
        _ => Ok(Response::builder().status(StatusCode::NOT_FOUND).body(Body::empty())?),
    }
}
