//! The connection of a 0.3 plugin, over a stand-in that is as strict as the host.
#![cfg(not(target_family = "wasm"))]

use std::future::Future;
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::task::{Context, Waker};

use uninterruptible_guest::asynchronous::Connection;
use uninterruptible_guest::testing::Peer;
use uninterruptible_guest::{Error, Ready};

#[test]
fn a_line_is_read_across_arrivals() {
    let answer = Peer::new().sends("fir").pauses().sends("st\nse").sends("cond").meets_async(
        async |mut connection: Connection| {
            let mut line = String::new();
            connection.read_line(&mut line).await?;
            let mut rest = Vec::new();
            connection.read_to_end(&mut rest).await?;
            write!(connection, "{}|{}", line.trim_end(), String::from_utf8_lossy(&rest)).await
        },
    );
    assert_eq!((answer.text().as_str(), answer.error), ("first|second", None));
}

#[test]
fn a_line_may_be_bounded() {
    Peer::new().sends("0123456789\nrest").meets_async(async |mut connection: Connection| {
        let mut line = Vec::new();
        assert_eq!(connection.read_until(b'\n', 4, &mut line).await?, 4);
        assert_eq!(connection.read_until(b'\n', 0, &mut line).await?, 0);
        assert_eq!(connection.read_until(b'\n', 100, &mut line).await?, 7);
        assert_eq!(line, b"0123456789\n");
        let mut buffer = [0; 2];
        assert_eq!(connection.read(&mut buffer).await?, 2);
        assert_eq!(connection.read_until(b'\n', 100, &mut line).await?, 2);
        assert_eq!(connection.read_until(b'\n', 100, &mut line).await?, 0);
        io::Result::Ok(())
    });
}

#[test]
fn a_reset_is_an_error_on_every_read() {
    let mut kinds = Vec::new();
    Peer::new().sends("half").resets("reset by peer").meets_async(async |mut connection: Connection| {
        let mut bytes = Vec::new();
        for _ in 0..3 {
            let read = connection.read_to_end(&mut bytes).await;
            kinds.push(read.map_err(|error| (error.kind(), error.to_string())));
        }
        assert_eq!(bytes, b"half");
        io::Result::Ok(())
    });
    let reset = || Err((ErrorKind::ConnectionReset, "reset by peer".to_owned()));
    assert_eq!(kinds, [reset(), reset(), reset()]);
}

#[test]
fn bulk_is_copied_whole() {
    let bytes: Vec<u8> = (0..1_000_000).map(|index| (index % 251) as u8).collect();
    let answer = Peer::new().sends("skip\n").sends(&bytes).meets_async(async |mut connection: Connection| {
        connection.read_line(&mut String::new()).await?;
        let (input, output) = connection.halves();
        let copied = input.copy_to(output).await?;
        assert_eq!(copied, 1_000_000);
        io::Result::Ok(())
    });
    assert!(answer.bytes == bytes);
    assert_eq!(answer.error, None);
}

#[test]
fn a_peer_that_leaves_breaks_the_pipe() {
    let answer = Peer::new().leaves_after(25_000).meets_async(async |mut connection: Connection| {
        loop {
            if let Err(error) = connection.write_all(&[b'x'; 10_000]).await {
                return Err::<(), _>(format!("{:?}", error.kind()));
            }
        }
    });
    assert_eq!((answer.bytes.len(), answer.error.as_deref()), (25_000, Some("BrokenPipe")));
}

#[test]
fn a_finished_output_leaves_the_input_readable() {
    let answer = Peer::new().sends("still here").meets_async(async |mut connection: Connection| {
        connection.write_all(b"bye").await?;
        connection.finish();
        let kind = connection.write_all(b"!").await.map_or_else(|error| error.kind(), |()| ErrorKind::Other);
        assert_eq!(kind, ErrorKind::BrokenPipe);
        let mut rest = Vec::new();
        connection.read_to_end(&mut rest).await?;
        assert_eq!(rest, b"still here");
        io::Result::Ok(())
    });
    assert_eq!((answer.text().as_str(), answer.error), ("bye", None));
}

#[test]
fn a_cancelled_read_loses_nothing() {
    let answer = Peer::new().sends("one ").pauses().sends("two ").sends("three").meets_async(
        async |mut connection: Connection| {
            let mut bytes = Vec::new();
            connection.fill_buf().await?;
            connection.consume(4);
            {
                let read = pin!(connection.fill_buf());
                assert!(read.poll(&mut Context::from_waker(Waker::noop())).is_pending());
            }
            connection.read_to_end(&mut bytes).await?;
            connection.write_all(&bytes).await
        },
    );
    assert_eq!(answer.text(), "two three");
}

#[test]
fn a_drain_is_noticed_between_two_messages() {
    let handler = async |mut connection: Connection| -> io::Result<()> {
        let mut line = String::new();
        while connection.ready().await == Ready::Input {
            line.clear();
            if connection.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            write!(connection, "got {line}").await?;
        }
        assert!(connection.is_draining());
        connection.write_all(b"bye\n").await
    };
    let drained = Peer::new().sends("a\n").pauses().sends("b\n").pauses().drains().stays_silent();
    assert_eq!(drained.meets_async(handler).text(), "got a\ngot b\nbye\n");
    assert_eq!(Peer::new().sends("a\n").meets_async(handler).text(), "got a\n");
}

#[test]
fn the_first_failure_counts() {
    let answer = Peer::new().meets_async(async |connection: Connection| {
        connection.fail("first");
        Err::<(), _>(Error::new("second"))
    });
    assert_eq!(answer.error.as_deref(), Some("first"));
}

#[test]
#[should_panic(expected = "something that never comes")]
fn an_endless_wait_fails_the_test() {
    Peer::new()
        .stays_silent()
        .meets_async(async |mut connection: Connection| connection.read_to_end(&mut Vec::new()).await.map(drop));
}
