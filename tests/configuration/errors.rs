//! The one line that names a mistake in a configuration file: where it is, and its remedy.

use super::{File, quoted, refused};
use crate::{
    certificates,
    harness::{Setup, directory, plugin},
};

#[test]
fn a_mistake_is_named_with_its_line_and_a_suggestion() {
    for (text, line) in [
        (
            "plugin = \"x\"\nmax-conections = 5\n",
            "--config FILE, line 2: there is no option \"max-conections\"; did you mean \"max-connections\"?",
        ),
        ("colour = \"red\"\n", "--config FILE, line 1: there is no option \"colour\""),
        ("plugin = \"x\nbind = 1", "--config FILE, line 1: is not valid TOML: "),
        ("plugin = \"x\"\nplugin = \"y\"\n", "--config FILE, line 2: is not valid TOML: duplicate key"),
        ("plugin = [\"x\"]\n", "--config FILE, line 1: plugin is a list; it takes one string or number"),
        (
            "plugin = \"x\"\nbacklog = true\n",
            "--backlog \"true\" (FILE, line 2): is not a whole number from 1 to 1000000",
        ),
        (
            "plugin = \"x\"\nverify-client-certificate = true\n",
            "--verify-client-certificate is given without --tls-certificate, and nothing would be encrypted; give a certificate, or leave it out",
        ),
        (
            "backlog = 1.5\n",
            "--config FILE, line 1: backlog is a fraction; it takes a string, a whole number, true, false or a list",
        ),
        (
            "workers = 0x10\n",
            "--config FILE, line 1: workers is a number that is not decimal; it takes a string, a whole number, true, false \
             or a list",
        ),
        (
            "disable-wasi-0-3 = \"yes\"\n",
            "--config FILE, line 1: disable-wasi-0-3 is a string or number; it takes true or false",
        ),
        ("listener = 1\n", "--config FILE, line 1: listener is a number; it takes tables, as in [[listener]]"),
        (
            "\n[[listener]]\nplugin = \"x\"\n",
            "--config FILE, line 2: a [[listener]] needs a bind, as in bind = \"tcp://127.0.0.1:7000\"",
        ),
        (
            "[[listener]]\nbind = \"tcp://127.0.0.1:0\"\nworkers = 1\n",
            "--config FILE, line 3: \"workers\" is not an option of a single listener; put it above the first [[listener]]",
        ),
        (
            "bind = \"tcp://127.0.0.1:0\"\n[[listener]]\nbind = \"tcp://127.0.0.1:0\"\n",
            "--config FILE, line 1: bind is given here, and FILE, line 2 has a [[listener]]: put each address into a [[listener]] of its own",
        ),
        (
            "plugin = \"x\"\nidle-timeout = 30\n",
            "--idle-timeout \"30\" (FILE, line 2): is not a time with its unit, as in 500ms, 30s or 5m; none disables it",
        ),
        (
            "plugin = \"x\"\n[[listener]]\nbind = \"7000\"\n",
            "--bind \"7000\" (FILE, line 3): does not start with tcp://, unix:// or systemd:, as in tcp://127.0.0.1:7000",
        ),
        (
            "[[listener]]\nbind = \"tcp://127.0.0.1:1\"\n",
            "--plugin is missing for tcp://127.0.0.1:1: name the component to serve, as in --plugin hello.wasm",
        ),
        ("config = \"other.toml\"\n", "--config FILE, line 1: there is no option \"config\""),
        (
            "[tls]\ncertificate = \"x\"\n",
            "--config FILE, line 1: there is no table \"tls\" (write tls-certificate = \"FILE\", without a table); put options, with their names from --help, above the first [[listener]] or into one",
        ),
        (
            "[[listeners]]\nbind = \"tcp://127.0.0.1:0\"\n",
            "--config FILE, line 1: there is no table \"listeners\" (did you mean [[listener]]?); put options, with their names from --help, above the first [[listener]] or into one",
        ),
        ("bind = [[\"x\"]]\n", "--config FILE, line 1: bind has a list in its list, which takes strings or numbers"),
    ] {
        if line.ends_with(": ") || line.ends_with("duplicate key") {
            let file = File::saying(text);
            let (code, _, err) = file.setup().run();
            let line = line.replace("FILE", file.path.to_str().unwrap());
            assert!(code == 2 && err.lines().count() == 1 && err.contains(&line), "{text}: {err}");
        } else {
            refused(text, line);
        }
    }
}

/// The error of a slip in TOML, or of another program's name for an option or table, shows the
/// right form and nothing of the line.
#[test]
fn the_error_of_a_slip_has_its_line_and_the_right_form() {
    for (text, line) in [
        (
            "plugin = \"x\"\nidle-timeout = none\n",
            "--config FILE, line 2: is not valid TOML: the value is a string, and strings need quotes; write KEY = \"VALUE\"",
        ),
        (
            "\ndrain-timeout = 30s\n",
            "--config FILE, line 2: is not valid TOML: the value starts with a number but is not one, and needs quotes, as in \
             KEY = \"30s\"",
        ),
        (
            "plugin: x.wasm\n",
            "--config FILE, line 1: is not valid TOML: there is a colon in place of the equals sign; write KEY = \"VALUE\"",
        ),
        (
            "[listener]\nbind = \"tcp://127.0.0.1:0\"\n",
            "--config FILE, line 1: [listener] is a single table, and there may be several of them; write [[listener]], with two brackets",
        ),
        (
            "[[listener]]\nbind = \"tcp://127.0.0.1:0\"\n[listener.route]\nalpn = \"x\"\n",
            "--config FILE, line 3: [listener.route] is a single table, and there may be several of them; write [[listener.route]], with two brackets",
        ),
        (
            "[[server]]\nport = 1\n",
            "--config FILE, line 1: there is no table \"server\" (did you mean [[listener]]?); put options, with their names from --help, above the first [[listener]] or into one",
        ),
        (
            "plugin = \"x\"\nlisten = \"tcp://127.0.0.1:7000\"\n",
            "--config FILE, line 2: there is no option \"listen\"; use bind = \"tcp://127.0.0.1:7000\"",
        ),
        (
            "ssl_certificate = \"x.pem\"\n",
            "--config FILE, line 1: there is no option \"ssl_certificate\"; use tls-certificate = \"FILE\"",
        ),
    ] {
        refused(text, line);
    }
}

/// The host does not expand paths as a shell does, and the error of a relative path names the
/// directory it is relative to.
#[test]
fn the_error_of_a_missing_path_has_its_line_and_the_reason() {
    let here = std::env::current_dir().unwrap();
    let relative = format!(
        "cannot be read: No such file in {}, the working directory, where relative paths start; write the whole path",
        here.display()
    );
    let expanded = "is used literally: the host does not expand ~, $VARIABLE or %, as a shell or systemd does; write the \
                    whole path, as in \
                    /home/me/FILE";
    let hello = quoted(&plugin("hello"));
    let tls = "tls-certificate = \"absent.pem\"\ntls-key = \"absent.key\"\n";
    let listener = "[[listener]]\nbind = \"tcp://127.0.0.1:0\"\n";
    for (text, line) in [
        ("\nplugin = \"absent/x.wasm\"\n".to_owned(), format!("--plugin \"absent/x.wasm\" (FILE, line 2): {relative}")),
        ("plugin = \"~/x.wasm\"\n".to_owned(), format!("--plugin \"~/x.wasm\" (FILE, line 1): {expanded}")),
        ("plugin = \"$HOME/x.wasm\"\n".to_owned(), format!("--plugin \"$HOME/x.wasm\" (FILE, line 1): {expanded}")),
        (format!("plugin = {hello}\n{tls}"), format!("--tls-certificate \"absent.pem\" (FILE, line 2): {relative}")),
        (
            format!("plugin = {hello}\nguest-env = \"A=@~/token\"\n"),
            format!("--guest-env \"~/token\" (FILE, line 2): {expanded}"),
        ),
        (
            format!("plugin = {hello}\n{listener}guest-dir = \"absent::/data\"\n"),
            format!("--guest-dir \"absent\" (FILE, line 4): {relative}"),
        ),
        (
            format!("plugin = {hello}\npidfile = \"${{XDG_RUNTIME_DIR}}/host.pid\"\n"),
            format!("--pidfile \"${{XDG_RUNTIME_DIR}}/host.pid\" (FILE, line 2): {expanded}"),
        ),
    ] {
        refused(&text, &line);
    }
    // The error names the file of that name beside the configuration.
    let file = File::saying("plugin = \"host.toml\"\n");
    let (code, _, err) = file.setup().run();
    assert_eq!(code, 2, "{err}");
    assert!(err.contains(&format!("({} is there, beside the configuration)", file.path.display())), "{err}");
    refused(
        "plugin = \"/absent/x.wasm\"\n",
        "--plugin \"/absent/x.wasm\" (FILE, line 1): cannot be read: No such file or directory",
    );
    let (code, _, err) = Setup::bare().option("--plugin", "~/x.wasm").run();
    assert_eq!((code, err.trim_end()), (2, &*format!("uninterruptible-host: --plugin \"~/x.wasm\": {expanded}")));
}

#[test]
fn a_missing_or_irregular_file_is_named() {
    let directory = directory();
    let missing = directory.path().join("missing.toml");
    let (code, _, err) = Setup::bare().option("--config", &missing).run();
    assert_eq!(
        (code, err.contains(&format!("--config {}: cannot be read: No such file", missing.display()))),
        (2, true),
        "{err}"
    );
    for (path, why) in [
        ("~/host.toml", "the host does not expand ~"),
        ("absent/host.toml", "the working directory, where relative paths start"),
    ] {
        let (code, _, err) = Setup::bare().option("--config", path).run();
        assert_eq!(code, 2, "{err}");
        assert!(err.contains(&format!("--config {path}: ")) && err.contains(why), "{err}");
    }
    let (code, _, err) = Setup::bare().option("--config", directory.path()).run();
    assert_eq!((code, err.contains("is not a regular file")), (2, true), "{err}");
}

#[test]
fn an_invalid_value_of_the_environment_is_named_with_its_variable() {
    let (code, _, err) = Setup::serving("hello").environment("UNINTERRUPTIBLE_BACKLOG", "x").run();
    assert_eq!(code, 2);
    assert_eq!(
        err.lines().last().unwrap(),
        "uninterruptible-host: --backlog \"x\" (UNINTERRUPTIBLE_BACKLOG): is not a whole number from 1 to 1000000"
    );
}

#[test]
fn bind_and_listener_tables_are_exclusive() {
    let file = File::saying("[[listener]]\nbind = \"tcp://127.0.0.1:0\"\nplugin = \"x\"\n");
    let (code, _, err) = file.setup().option("--bind", "tcp://127.0.0.1:0").run();
    assert_eq!(
        (code, err.contains("--bind: the configuration file has a [[listener]] for each address")),
        (2, true),
        "{err}"
    );
}

#[test]
fn an_unreachable_route_is_an_error() {
    let files = directory();
    let (certificate, key) = certificates::trusted().server(&["a.example"]).write(files.path(), "server");
    let listener = "[[listener]]\nbind = \"tcp://127.0.0.1:0\"\nplugin = \"x\"\n";
    let tls = format!(
        "{listener}tls-certificate = {}\ntls-key = {}\ntls-alpn = \"talk\"\n",
        quoted(&certificate),
        quoted(&key)
    );
    for (text, line) in [
        (
            format!("{listener}[[listener.route]]\nserver-name = \"a\"\n"),
            "FILE, line 4: a [[listener.route]] needs TLS, and tcp://127.0.0.1:0 has none: give it a tls-certificate, or remove the route",
        ),
        (
            format!("{tls}[[listener.route]]\nplugin = \"y\"\n"),
            "--config FILE, line 7: a [[listener.route]] needs a server-name or an alpn, by which it is chosen",
        ),
        (
            format!("{tls}[[listener.route]]\nserver-name = \"192.0.2.1\"\n"),
            "server-name \"192.0.2.1\" (FILE, line 8): is not a server name, as in www.example.org or *.example.org; clients do not send addresses as server names",
        ),
        (
            format!("{tls}[[listener.route]]\nalpn = \"shout\"\n"),
            "alpn \"shout\" (FILE, line 8): is not among the listener's tls-alpn, so that no client could negotiate it; add it there",
        ),
        (
            format!("{tls}[[listener.route]]\nalpn = \"talk\"\nidle-timeout = \"1s\"\n"),
            "--config FILE, line 9: \"idle-timeout\" is not an option of a single route; put it above the first [[listener.route]]",
        ),
        (
            format!("{tls}route = 1\n"),
            "--config FILE, line 7: route is a number; it takes tables, as in [[listener.route]]",
        ),
        (
            format!(
                "{tls}[[listener.route]]\nserver-name = \"*.Example\"\n[[listener.route]]\nserver-name = \"a.example\"\nalpn = \"talk\"\n"
            ),
            "--config FILE, line 9: this [[listener.route]] never matches, because the route of FILE, line 7 takes all of its connections; move it before that route, or remove it",
        ),
        (
            format!(
                "{tls}[[listener.route]]\nalpn = \"talk\"\n[[listener.route]]\nalpn = \"talk\"\nserver-name = \"*.example\"\n"
            ),
            "--config FILE, line 9: this [[listener.route]] never matches, because the route of FILE, line 7 takes all of its connections; move it before that route, or remove it",
        ),
    ] {
        refused(&text, line);
    }
}
