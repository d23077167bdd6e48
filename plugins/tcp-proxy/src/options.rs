//! The options of the operator, from `--guest-arg`.

use std::time::Duration;

use uninterruptible_guest::Error;

/// Long enough for three connection attempts to a distant server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) target: String,
    pub(crate) connect_timeout: Duration,
    /// Whether the upstream gets the address of the client.
    pub(crate) proxy_header: bool,
}

impl Options {
    pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, Error> {
        let (mut target, mut connect_timeout, mut proxy_header) = (None, CONNECT_TIMEOUT, false);
        for word in words {
            if word == "--proxy-header" {
                proxy_header = true;
            } else if let Some(seconds) = word.strip_prefix("--connect-timeout=") {
                connect_timeout =
                    seconds.parse().ok().filter(|seconds| *seconds > 0).map(Duration::from_secs).ok_or_else(|| {
                        Error::new(format!("--connect-timeout={seconds}: expected a number of seconds"))
                    })?;
            } else if word.starts_with("--") || target.is_some() {
                return Err(Error::new(format!(
                    "{word}: expected HOST:PORT, --proxy-header or --connect-timeout=SECONDS"
                )));
            } else {
                target = Some(word);
            }
        }
        match target {
            Some(target) => Ok(Self { target, connect_timeout, proxy_header }),
            None => Err(Error::new("no target: give it with --guest-arg HOST:PORT, and grant it with --guest-connect")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Options;
    use std::time::Duration;

    fn parse(words: &[&str]) -> Result<Options, String> {
        Options::parse(words.iter().map(|word| (*word).to_owned())).map_err(|error| error.to_string())
    }

    #[test]
    fn arguments_are_parsed() {
        let all = parse(&["--connect-timeout=3", "h:1", "--proxy-header"]).unwrap();
        assert_eq!(all.target, "h:1");
        assert_eq!((all.connect_timeout, all.proxy_header), (Duration::from_secs(3), true));
        assert!(!parse(&["h:1"]).unwrap().proxy_header);
    }

    #[test]
    fn an_unknown_argument_is_named() {
        assert!(parse(&[]).unwrap_err().starts_with("no target"));
        for words in [
            &["a:1", "b:2"][..],
            &["a:1", "--header"],
            &["a:1", "--connect-timeout=0"],
            &["a:1", "--connect-timeout=x"],
        ] {
            assert!(parse(words).unwrap_err().starts_with(words[1]), "{words:?}");
        }
    }
}
