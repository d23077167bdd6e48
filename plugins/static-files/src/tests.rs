use super::request::{LONGEST_HEAD, MOST_HEADERS};
use super::serve;
use std::fs;
use std::time::{Duration, SystemTime};
use uninterruptible_guest::testing::{Answer, Peer};

struct Site(tempfile::TempDir);

impl Site {
    fn new() -> Self {
        let site = Self(tempfile::tempdir().unwrap());
        fs::write(site.0.path().join("index.html"), "<p>home</p>").unwrap();
        fs::write(site.0.path().join("digits.txt"), "0123456789").unwrap();
        fs::write(site.0.path().join("empty"), "").unwrap();
        fs::create_dir(site.0.path().join("docs")).unwrap();
        fs::write(site.0.path().join("docs/index.html"), "docs").unwrap();
        site
    }

    fn meets(&self, peer: Peer) -> Answer {
        peer.meets(|connection| serve(connection, self.0.path()))
    }

    fn says(&self, request: &str) -> String {
        let answer = self.meets(Peer::new().sends(request));
        assert_eq!(answer.error, None, "{request}");
        answer.text()
    }

    fn get(&self, target: &str, headers: &str) -> String {
        self.says(&format!("GET {target} HTTP/1.1\r\nHost: h\r\n{headers}\r\n"))
    }
}

#[track_caller]
fn is(answer: &str, status: &str, lines: &[&str], content: &str) {
    let (head, found) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {head}");
    for line in lines {
        assert!(head.lines().any(|found| found == *line), "{line}: {head}");
    }
    assert_eq!(found, content);
}

fn header(answer: &str, name: &str) -> String {
    let (head, _) = answer.split_once("\r\n\r\n").unwrap();
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap().to_owned()
}

#[test]
fn files_are_served_with_their_content_type() {
    let site = Site::new();
    is(&site.get("/", ""), "200", &["Content-Type: text/html; charset=utf-8", "Content-Length: 11"], "<p>home</p>");
    is(&site.get("/docs/?x", ""), "200", &["Accept-Ranges: bytes"], "docs");
    is(&site.get("/%64igits.txt", ""), "200", &["Content-Type: text/plain; charset=utf-8"], "0123456789");
    is(&site.get("/empty", ""), "200", &["Content-Length: 0", "Content-Type: application/octet-stream"], "");
    is(&site.says("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"), "200", &["Content-Length: 11"], "");
}

#[test]
fn a_missing_file_gets_a_response_with_content() {
    let site = Site::new();
    for target in ["/absent", "/docs/absent", "/digits.txt/", "/digits.txt/x", "/.hidden"] {
        is(&site.get(target, ""), "404", &["Content-Type: text/plain; charset=utf-8"], "404 Not Found\n");
    }
    is(&site.get("/docs?q=1", ""), "301", &["Location: /docs/?q=1"], "301 Moved Permanently\n");
    is(&site.get("/../x", ""), "400", &[], "400 Bad Request\n");
    is(&site.says("HEAD /absent HTTP/1.1\r\nHost: h\r\n\r\n"), "404", &["Content-Length: 14"], "");
}

#[test]
fn a_connection_serves_requests_until_one_closes_it() {
    let site = Site::new();
    let one = "GET /digits.txt HTTP/1.1\r\nHost: h\r\n\r\n";
    let close = "GET /digits.txt HTTP/1.1\r\nHost: h\r\nConnection: Foo, Close\r\n\r\n";
    let answer = site.says(&format!("{one}\r\n{one}{close}{one}"));
    assert_eq!(answer.matches("HTTP/1.1 200 OK\r\n").count(), 3);
    assert_eq!(answer.matches("Connection: close\r\n").count(), 1);

    let old = site.says("GET /empty HTTP/1.0\r\n\r\nGET /empty HTTP/1.0\r\n\r\n");
    is(&old, "200", &["Connection: close"], "");
    let kept = site.says("GET /empty HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /empty HTTP/1.0\r\n\r\n");
    assert_eq!(kept.matches("HTTP/1.1 200 OK\r\n").count(), 2);
    assert!(kept.contains("Connection: keep-alive\r\n"));
}

#[test]
fn other_methods_are_rejected_and_their_content_is_not_parsed_as_requests() {
    let site = Site::new();
    let smuggled = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let post = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{smuggled}", smuggled.len());
    is(&site.says(&post), "405", &["Allow: GET, HEAD", "Connection: close"], "405 Method Not Allowed\n");
    let chunked = format!("GET /empty HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{smuggled}");
    is(&site.says(&chunked), "200", &["Connection: close"], "");
    let empty = "DELETE /empty HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(site.says(&format!("{empty}{empty}")).matches("405 Method Not Allowed\r\n").count(), 2);
}

#[test]
fn an_invalid_request_is_rejected_and_ends_the_connection() {
    let site = Site::new();
    let long = "x".repeat(LONGEST_HEAD);
    let many = "a: b\r\n".repeat(MOST_HEADERS + 1);
    for (sent, status) in [
        ("nonsense\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a", "400"),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", "505"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"),
        (&format!("GET /{long}"), "414"),
        (&format!("GET / HTTP/1.1\r\nHost: h\r\nx: {long}"), "431"),
        (&format!("GET / HTTP/1.1\r\nHost: h\r\n{many}\r\n"), "431"),
    ] {
        let answer = site.says(&format!("{sent}GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{sent:.60}: {answer}");
        assert!(
            answer.contains("Connection: close\r\n") && answer.matches("HTTP/1.1 ").count() == 1,
            "{sent:.60}: {answer}"
        );
    }
    assert_eq!(site.says(""), "");
}

#[test]
fn a_head_may_arrive_in_pieces_of_any_size() {
    let site = Site::new();
    let request = "GET /digits.txt HTTP/1.1\r\nHost: h\r\n\r\nHEAD / HTTP/1.1\r\nHost: h\r\n\r\n";
    let whole = site.says(request);
    let bytes = request.bytes().fold(Peer::new(), |peer, byte| peer.sends([byte]));
    let dateless =
        |answer: &str| answer.lines().filter(|line| !line.starts_with("Date")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(dateless(&site.meets(bytes).text()), dateless(&whole));
}

#[test]
fn an_unchanged_file_is_not_sent_again() {
    let site = Site::new();
    let first = site.get("/digits.txt", "");
    let (tag, date) = (header(&first, "ETag"), header(&first, "Last-Modified"));
    let old = httpdate::fmt_http_date(SystemTime::now() - Duration::from_secs(86_400));
    let tag_line = format!("ETag: {tag}");
    for condition in [
        format!("If-None-Match: {tag}\r\n"),
        format!("If-None-Match: \"x\", W/{tag}\r\n"),
        "If-None-Match: *\r\n".to_owned(),
        format!("If-Modified-Since: {date}\r\n"),
        format!("If-None-Match: {tag}\r\nIf-Modified-Since: {old}\r\n"),
        format!("If-None-Match: {tag}\r\nRange: bytes=0-1\r\n"),
    ] {
        is(&site.get("/digits.txt", &condition), "304", &[&tag_line], "");
    }
    for condition in [
        "If-None-Match: \"x\"\r\n".to_owned(),
        format!("If-Modified-Since: {old}\r\n"),
        "If-Modified-Since: yesterday\r\n".to_owned(),
        format!("If-None-Match: \"x\"\r\nIf-Modified-Since: {date}\r\n"),
        format!("If-Match: {tag}\r\n"),
        format!("If-Unmodified-Since: {date}\r\n"),
    ] {
        is(&site.get("/digits.txt", &condition), "200", &[&tag_line], "0123456789");
    }
    for condition in
        [format!("If-Match: W/{tag}\r\n"), "If-Match: \"x\"\r\n".to_owned(), format!("If-Unmodified-Since: {old}\r\n")]
    {
        is(&site.get("/digits.txt", &condition), "412", &["Content-Length: 0"], "");
    }
    fs::write(site.0.path().join("digits.txt"), "012345678").unwrap();
    is(&site.get("/digits.txt", &format!("If-None-Match: {tag}\r\n")), "200", &[], "012345678");
}

#[test]
fn parts_are_served() {
    let site = Site::new();
    let first = site.get("/digits.txt", "");
    let (tag, date) = (header(&first, "ETag"), header(&first, "Last-Modified"));
    is(
        &site.get("/digits.txt", "Range: bytes=2-4\r\n"),
        "206",
        &["Content-Range: bytes 2-4/10", "Content-Length: 3"],
        "234",
    );
    is(&site.get("/digits.txt", "Range: bytes=-3\r\n"), "206", &["Content-Range: bytes 7-9/10"], "789");
    is(
        &site.get("/digits.txt", "Range: bytes=10-\r\n"),
        "416",
        &["Content-Range: bytes */10"],
        "416 Range Not Satisfiable\n",
    );
    is(&site.get("/empty", "Range: bytes=0-\r\n"), "416", &["Content-Range: bytes */0"], "416 Range Not Satisfiable\n");
    is(&site.get("/digits.txt", "Range: bytes=4-2\r\n"), "200", &[], "0123456789");
    is(&site.get("/digits.txt", "Range: bytes=0-1\r\nRange: bytes=3-4\r\n"), "200", &[], "0123456789");
    for same in [&tag, &date] {
        is(&site.get("/digits.txt", &format!("Range: bytes=0-1\r\nIf-Range: {same}\r\n")), "206", &[], "01");
    }
    for other in ["\"x\"", &format!("W/{tag}"), "Thu, 01 Jan 1970 00:00:00 GMT"] {
        is(&site.get("/digits.txt", &format!("Range: bytes=0-1\r\nIf-Range: {other}\r\n")), "200", &[], "0123456789");
    }
    let head = site.says("HEAD /digits.txt HTTP/1.1\r\nHost: h\r\nRange: bytes=0-1\r\n\r\n");
    is(&head, "200", &["Content-Length: 10"], "");
}

#[test]
fn several_parts_are_served_with_a_head_each() {
    let site = Site::new();
    let answer = site.get("/digits.txt", "Range: bytes=0-1, 8-\r\n");
    let kind = header(&answer, "Content-Type");
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let content = format!(
        "\r\n--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Range: bytes 0-1/10\r\n\r\n01\
         \r\n--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Range: bytes 8-9/10\r\n\r\n89\r\n--{boundary}--\r\n"
    );
    assert_eq!(header(&answer, "Content-Length"), content.len().to_string());
    assert_eq!(answer.split_once("\r\n\r\n").unwrap().1, content);
}

#[test]
fn large_files_arrive_whole() {
    let site = Site::new();
    let content: Vec<u8> = (0..1_000_003_u32).map(|index| (index % 251) as u8).collect();
    fs::write(site.0.path().join("large"), &content).unwrap();
    let answer = site.meets(Peer::new().sends("GET /large HTTP/1.1\r\nHost: h\r\n\r\n"));
    assert!(answer.bytes.ends_with(&content) && answer.error.is_none());
    let part = site.meets(Peer::new().sends("GET /large HTTP/1.1\r\nHost: h\r\nRange: bytes=65536-900000\r\n\r\n"));
    assert!(part.bytes.ends_with(&content[65_536..=900_000]));
    let left = site.meets(Peer::new().sends("GET /large HTTP/1.1\r\nHost: h\r\n\r\n").leaves_after(100_000));
    assert_eq!(left.error.as_deref(), Some("the peer has gone"));
}

#[test]
fn a_drain_closes_an_idle_client_and_answers_a_busy_one() {
    let site = Site::new();
    let request = "GET /empty HTTP/1.1\r\nHost: h\r\n\r\n";
    let answer = site.meets(Peer::new().sends(request).drains().stays_silent());
    assert_eq!((answer.text().matches("200 OK").count(), answer.error), (1, None));
    let answer = site.meets(Peer::new().sends(request).sends(request).drains().sends(request).stays_silent());
    assert_eq!((answer.text().matches("200 OK").count(), answer.error), (2, None));
}
