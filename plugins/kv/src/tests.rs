use super::{LONGEST_VALUE, Store, serve};
use uninterruptible_guest::testing::{Answer, Peer};

fn asks(store: &tempfile::TempDir, said: impl AsRef<[u8]>) -> String {
    meets(store, Peer::new().sends(said)).text()
}

fn meets(store: &tempfile::TempDir, peer: Peer) -> Answer {
    peer.meets(|connection| serve(connection, Store::new(store.path())))
}

#[test]
fn values_are_set_got_and_deleted() {
    let store = tempfile::tempdir().unwrap();
    assert_eq!(asks(&store, "GET a\nSET a 3\none\nGET a\n"), "NONE\nOK\nVALUE 3\none\n");
    assert_eq!(asks(&store, "GET a\r\nSET a 3\r\ntwo\r\nGET a\r\n"), "VALUE 3\none\nOK\nVALUE 3\ntwo\n");
    assert_eq!(asks(&store, "SET a 0\n\nGET a\nDEL a\nDEL a\nGET a\n"), "OK\nVALUE 0\n\nOK\nNONE\nNONE\n");
}

#[test]
fn values_are_any_bytes() {
    let store = tempfile::tempdir().unwrap();
    let value = b"GET a\n\0\xff\r\nSET b 1\n";
    let said = [format!("SET a {}\n", value.len()).as_bytes(), value, b"\nGET a\n"].concat();
    let expected = [b"OK\nVALUE 18\n", value.as_slice(), b"\n"].concat();
    assert_eq!(meets(&store, Peer::new().sends(said)).bytes, expected);
    let largest = vec![b'\r'; LONGEST_VALUE];
    let said = [format!("SET a {LONGEST_VALUE}\n").as_bytes(), &largest, b"\nGET a\n"].concat();
    assert_eq!(meets(&store, Peer::new().sends(said)).bytes.len(), "OK\nVALUE 1048576\n\n".len() + LONGEST_VALUE);
}

#[test]
fn a_key_is_added_once() {
    let store = tempfile::tempdir().unwrap();
    assert_eq!(asks(&store, "ADD k 1\na\nADD k 1\nb\nGET k\n"), "OK\nEXISTS\nVALUE 1\na\n");
}

#[test]
fn keys_are_listed() {
    let store = tempfile::tempdir().unwrap();
    assert_eq!(
        asks(&store, "KEYS\nSET b/1 0\n\nSET a 0\n\nKEYS\nKEYS b\n"),
        "END\nOK\nOK\nKEY a\nKEY b/1\nEND\nKEY b/1\nEND\n"
    );
}

#[test]
fn a_mistake_ends_the_conversation() {
    let store = tempfile::tempdir().unwrap();
    let answer = asks(&store, "SET a 3\none!\nSET b 1\nx\n");
    assert_eq!(answer, "ERROR the value is longer than announced\n");
    let answer = asks(&store, "SET b 1048577\nGET a\n");
    assert_eq!(answer, "ERROR a length is 0 to 1048576 bytes\n");
    assert_eq!(asks(&store, "x".repeat(10_000)), "ERROR the line is not complete\n");
    assert_eq!(asks(&store, "GET a\nGET b\n"), "NONE\nNONE\n");
}

#[test]
fn a_value_that_does_not_arrive_whole_is_not_kept() {
    let store = tempfile::tempdir().unwrap();
    for said in ["SET a 3\n", "SET a 3\non", "SET a 3\none", "SET a 3\none\r"] {
        assert_eq!(meets(&store, Peer::new().sends(said)), Answer { bytes: Vec::new(), error: None }, "{said:?}");
        let broken = meets(&store, Peer::new().sends(said).resets("reset by peer"));
        assert_eq!(broken.error.as_deref(), Some("reset by peer"));
    }
    assert_eq!(asks(&store, "GET a\n"), "NONE\n");
}

#[test]
fn a_drain_closes_an_idle_client_and_answers_a_busy_one() {
    let store = tempfile::tempdir().unwrap();
    let idle = Peer::new().sends("GET a\n").drains().stays_silent();
    assert_eq!(meets(&store, idle), Answer { bytes: b"NONE\n".to_vec(), error: None });
    let busy = Peer::new().sends("GET a\n").drains().sends("GET b\nGET c\n").stays_silent();
    assert_eq!(meets(&store, busy), Answer { bytes: b"NONE\nNONE\nNONE\n".to_vec(), error: None });
}

#[test]
fn an_unusable_store_is_an_error_and_not_an_empty_one() {
    let store = tempfile::tempdir().unwrap();
    let path = store.path().join("file");
    std::fs::write(&path, "").unwrap();
    let answer =
        Peer::new().sends("GET a\nSET a 1\nx\nDEL a\nKEYS\n").meets(|connection| serve(connection, Store::new(&path)));
    assert_eq!(
        answer.text(),
        "ERROR it cannot be read\nERROR it cannot be written\nERROR it cannot be removed\nERROR it cannot be listed\n"
    );
}
