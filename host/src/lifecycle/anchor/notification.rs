//! A notification from a generation, in the protocol of sd_notify.

use rustix::process::Pid;

/// The fields of a notification that matter here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Notification {
    pub(super) ready: bool,
    pub(super) barrier: bool,
    pub(super) main: Option<Pid>,
    pub(super) exit_status: Option<u8>,
    /// The lines for the supervisor: all but those for the anchor alone.
    pub(super) to_relay: String,
}

impl Notification {
    /// Parses the lines; it relays those that mean nothing to the anchor.
    pub(super) fn parse(text: &str) -> Self {
        let mut parsed = Self::default();
        for line in text.lines() {
            match line.split_once('=') {
                Some(("MAINPID", pid)) => {
                    parsed.main = pid.parse().ok().filter(|pid| *pid > 0).and_then(Pid::from_raw);
                    continue;
                }
                Some(("EXIT_STATUS", status)) => {
                    parsed.exit_status = status.parse().ok();
                    continue;
                }
                Some(("READY", "1")) => parsed.ready = true,
                Some(("BARRIER", "1")) => parsed.barrier = true,
                _ => {}
            }
            if !parsed.to_relay.is_empty() {
                parsed.to_relay.push('\n');
            }
            parsed.to_relay.push_str(line);
        }
        parsed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_for_the_anchor_are_not_relayed() {
        let parsed = Notification::parse("READY=1\nMAINPID=77\nSTATUS=generation 2 serves\n");
        let expected = Notification {
            ready: true,
            main: Pid::from_raw(77),
            to_relay: "READY=1\nSTATUS=generation 2 serves".into(),
            ..Notification::default()
        };
        assert_eq!(parsed, expected);
        assert_eq!(Notification::parse("EXIT_STATUS=3"), Notification { exit_status: Some(3), ..Default::default() });
        assert!(Notification::parse("BARRIER=1").barrier);
        for nonsense in ["MAINPID=", "MAINPID=-1", "MAINPID=0", "MAINPID=99999999999", "READY=0", "=", ""] {
            let parsed = Notification::parse(nonsense);
            assert!(parsed.main.is_none() && !parsed.ready, "{nonsense}");
        }
    }
}
