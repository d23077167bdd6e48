//! The configuration file, its place below the command line and the environment, and `check`.

use crate::{
    certificates,
    harness::{Host, Setup, connect, directory, own_addresses, plugin, read_to_end, shared_cache, wait_for},
    openssl::Client,
};
use nix::sys::signal::Signal;
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A configuration file in a directory of its own.
struct File {
    path: PathBuf,
    _directory: Arc<tempfile::TempDir>,
}

impl File {
    fn saying(text: &str) -> Self {
        let directory = directory();
        let path = directory.path().join("host.toml");
        fs::write(&path, text).unwrap();
        Self { path, _directory: Arc::new(directory) }
    }

    fn setup(&self) -> Setup {
        Setup::bare().option("--config", &self.path).option("--cache-dir", shared_cache())
    }

    fn rewrite(&self, text: &str) {
        let draft = self.path.with_extension("draft");
        fs::write(&draft, text).unwrap();
        fs::rename(draft, &self.path).unwrap();
    }
}

fn quoted(path: &Path) -> String {
    format!("{:?}", path.to_str().unwrap())
}

fn ask(host: &Host, listener: usize) -> String {
    let mut stream = connect(host.addresses[listener]);
    stream.write_all(b"bob\n").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    String::from_utf8(read_to_end(&mut stream)).unwrap()
}

/// Refused with code 2 and this one line, whose `FILE` stands for the file.
fn refused(text: &str, line: &str) {
    let file = File::saying(text);
    for setup in [file.setup(), Setup::bare().argument("check").option("--config", &file.path)] {
        let (code, out, err) = setup.run();
        assert_eq!((code, out.as_str()), (2, ""), "{text}: {err}");
        let line = line.replace("FILE, line", &format!("{}, line", file.path.display()));
        assert_eq!(err.lines().collect::<Vec<_>>(), [format!("uninterruptible-host: {line}")], "{text}");
    }
}

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
    let file = File::saying(&format!(
        "plugin = {}\nbind = \"tcp://127.0.0.1:0\"\nlog-level = \"error\"\nlog-format = \"json\"\ndrain-timeout = \"nonsense\"\n",
        quoted(&plugin("hello"))
    ));
    let setup = file.setup().environment("UNINTERRUPTIBLE_LOG_LEVEL", "info").option("--drain-timeout", "20s");
    let mut host = setup.start_on(1);
    assert_eq!(ask(&host, 0), "Hello bob!\n");
    assert_eq!(host.terminate(), 0);
    let log = host.log();
    assert!(log.lines().all(|line| line.starts_with('{')), "the file's format: {log}");
    assert!(log.contains("all connections finished"), "the environment's level: {log}");
}

#[test]
fn each_listener_has_what_its_table_says() {
    let file = File::saying(&format!(
        "plugin = {hello}\n\n[[listener]]\nbind = \"tcp://127.0.0.1:0\"\n\n[[listener]]\nbind = \"tcp://127.0.0.1:0\"\nplugin = {echo}\n",
        hello = quoted(&plugin("hello")),
        echo = quoted(&plugin("echo"))
    ));
    let mut host = file.setup().option("--log-level", "debug").start_on(2);
    assert_eq!([ask(&host, 0), ask(&host, 1)], ["Hello bob!\n", "bob\n"]);
    for plugin in ["plugin=hello", "plugin=echo"] {
        host.logged(&["connection finished", plugin]);
    }
    assert_eq!(host.terminate(), 0);
}

#[test]
fn a_mistake_is_told_with_its_line_and_what_may_have_been_meant() {
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

/// The error of a slip in TOML, or of another program's name for an option or table, has the right form and nothing of the line.
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

/// The host does not expand paths as a shell does, and the error of a relative path names the directory it is relative to.
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
    // Where it was thought to be.
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
fn a_file_that_cannot_be_one_is_named() {
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
fn a_value_from_the_environment_is_told_with_its_variable() {
    let (code, _, err) = Setup::serving("hello").environment("UNINTERRUPTIBLE_BACKLOG", "x").run();
    assert_eq!(code, 2);
    assert_eq!(
        err.lines().last().unwrap(),
        "uninterruptible-host: --backlog \"x\" (UNINTERRUPTIBLE_BACKLOG): is not a whole number from 1 to 1000000"
    );
}

#[test]
fn addresses_are_given_in_one_way() {
    let file = File::saying("[[listener]]\nbind = \"tcp://127.0.0.1:0\"\nplugin = \"x\"\n");
    let (code, _, err) = file.setup().option("--bind", "tcp://127.0.0.1:0").run();
    assert_eq!(
        (code, err.contains("--bind: the configuration file has a [[listener]] for each address")),
        (2, true),
        "{err}"
    );
}

#[test]
fn check_prints_a_file_that_says_the_same() {
    let file = File::saying(&format!(
        "idle-timeout = \"7m\"\n\n[[listener]]\nbind = \"tcp://127.0.0.1:0\"\nplugin = {}\n",
        quoted(&plugin("hello"))
    ));
    let check = |path: &Path| {
        let setup = Setup::bare().argument("check").option("--config", path).option("--workers", "3");
        let (code, out, err) = setup.environment("UNINTERRUPTIBLE_GUEST_MEMORY", "32MiB").run();
        assert_eq!(code, 0, "{err}");
        out
    };
    let printed = check(&file.path);
    let comment = |key: &str| {
        let line = printed
            .lines()
            .find(|line| line.starts_with(&format!("{key} = ")))
            .unwrap_or_else(|| panic!("{key}: {printed}"));
        line.split_once(" # ").unwrap().1.to_owned()
    };
    assert_eq!(comment("idle-timeout"), format!("{}, line 1", file.path.display()));
    assert_eq!(comment("bind"), format!("{}, line 4", file.path.display()));
    assert_eq!(comment("guest-memory"), "UNINTERRUPTIBLE_GUEST_MEMORY");
    assert_eq!(comment("workers"), "the command line");
    assert_eq!(comment("backlog"), "default");
    let said: Vec<&str> = printed.lines().map(|line| line.split_once(" # ").map_or(line, |(said, _)| said)).collect();
    let again = File::saying(&printed);
    let printed_again = check(&again.path);
    let said_again: Vec<&str> =
        printed_again.lines().map(|line| line.split_once(" # ").map_or(line, |(said, _)| said)).collect();
    assert_eq!(said, said_again);
}

/// What a listener or a route has cleared is not inherited when it is read again.
#[test]
fn check_prints_what_was_cleared() {
    let files = directory();
    let (certificate, key) = certificates::trusted().server(&["localhost"]).write(files.path(), "server");
    let file = File::saying(&format!(
        "plugin = {}\nguest-arg = \"secret\"\ntls-certificate = {}\ntls-key = {}\ntls-alpn = \"talk\"\n\n[[listener]]\n\
         bind = \"tcp://127.0.0.1:0\"\n\n[[listener.route]]\nalpn = \"talk\"\nguest-arg = []\n\n[[listener]]\nbind = \"tcp://127.0.0.1:0\"\n\
         tls-certificate = []\n",
        quoted(&plugin("hello")),
        quoted(&certificate),
        quoted(&key)
    ));
    let mut path = file.path.clone();
    let mut kept = Vec::new();
    for _ in 0..2 {
        let (code, printed, err) = Setup::bare().argument("check").option("--config", &path).run();
        assert_eq!(code, 0, "{err}");
        let words = |table: usize| printed.split("\n[[").nth(table).unwrap().to_owned();
        assert!(words(1).contains("guest-arg = [\"secret\"]") && words(2).contains("guest-arg = []"), "{printed}");
        assert!(words(3).contains("tls-certificate = []"), "{printed}");
        let again = File::saying(&printed);
        path.clone_from(&again.path);
        kept.push(again);
    }
}

#[test]
fn check_finds_what_booting_would_find_and_disturbs_nobody() {
    let directory = directory();
    let path = directory.path().join("host.sock");
    let live = format!("unix://{}", path.display());
    let host = Setup::serving("hello").option("--bind", &live).start();
    let port = format!("tcp://{}", host.addresses[0].tcp());
    let check = || Setup::bare().argument("check").option("--plugin", plugin("hello"));
    // What a live host holds is what its successor will be given.
    for served in [&live, &port] {
        let (code, _, err) = check().option("--bind", served).run();
        assert_eq!(code, 0, "{err}");
    }
    assert_eq!(host.settled_log().matches("connection f").count(), 1, "nobody else has connected");

    let regular = directory.path().join("regular");
    fs::write(&regular, "").unwrap();
    let damaged = directory.path().join("damaged.wasm");
    fs::write(&damaged, "\0asm").unwrap();
    let nowhere = "tcp://192.0.2.1:0";
    let foreign = format!("unix://{}", regular.display());
    let lost = "unix:///nowhere/at/all.sock";
    for (setup, code, complaint) in [
        (check().option("--bind", nowhere), 3, "this machine does not have that address"),
        (check().option("--bind", &foreign), 3, "is not a socket"),
        (check().option("--bind", lost), 3, "does not exist"),
        (check().option("--pidfile", "/nowhere/at/all.pid"), 2, "--pidfile /nowhere/at/all.pid"),
        (Setup::bare().argument("check").option("--plugin", &damaged), 2, "is damaged"),
        (Setup::bare().argument("check"), 2, "--plugin is missing"),
        (check().argument("--anchor=nonsense"), 2, "--anchor \"nonsense\": is not one of auto, always, never"),
        (check().option("--handoff-socket", &regular), 3, "is not a socket"),
        (check().option("--take-over", &path), 3, "name the --handoff-socket of the host that serves"),
        (
            check().option("--pidfile", &regular).option("--log-file", &regular),
            2,
            "is the path of --log-file, too; give each a path of its own",
        ),
        (
            check().option("--pidfile", &regular).option("--admin", &foreign),
            2,
            "is the path of --admin, too; give each a path of its own",
        ),
        (check().option("--log-file", &regular).option("--bind", &foreign), 2, "is the path of --bind, too"),
        (check().option("--bind", format!("{foreign}/below.sock")), 3, "its directory is not a directory"),
    ] {
        let (found, out, err) = setup.run();
        assert_eq!((found, out.as_str(), err.contains(complaint)), (code, "", true), "{complaint}: {err}");
    }
    // None of these keeps a host from starting.
    for (setup, said) in [
        (check().option("--take-over", "/nowhere/at/all.sock"), "no predecessor, starting cold"),
        (check().option("--start-command", "/nowhere/at/all"), "/nowhere/at/all cannot be executed"),
        (check().option("--start-command", "/tmp"), "/tmp cannot be executed"),
    ] {
        let (found, _, err) = setup.run();
        assert_eq!((found, err.contains(said)), (0, true), "{said}: {err}");
    }
}

#[test]
fn a_reload_reads_the_file_anew_and_says_what_waits_for_a_restart() {
    let [port] = own_addresses();
    let listener =
        |bind: &str, name: &str| format!("[[listener]]\nbind = {bind:?}\nplugin = {}\n", quoted(&plugin(name)));
    let kept = listener("tcp://127.0.0.1:0", "hello");
    let file = File::saying(&format!("{kept}{}", listener(&format!("tcp://{port}"), "hello")));
    let host = file.setup().option("--log-level", "info").start_on(2);
    assert_eq!([ask(&host, 0), ask(&host, 1)], ["Hello bob!\n", "Hello bob!\n"]);
    let reload = |outcome: &str| {
        let before = host.log().matches(outcome).count();
        host.signal(Signal::SIGHUP);
        wait_for(outcome, || (host.log().matches(outcome).count() > before).then_some(()));
    };

    file.rewrite(&format!(
        "backlog = 9\n{}{}",
        listener("tcp://127.0.0.1:0", "echo"),
        listener("tcp://[::1]:0", "echo")
    ));
    reload("reloaded");
    assert_eq!([ask(&host, 0), ask(&host, 1)], ["bob\n", "Hello bob!\n"]);
    let log = host.log();
    for told in [
        "changed options need a restart options=\"--backlog\"",
        "removed listener needs a restart",
        "new listener needs a restart",
    ] {
        assert!(log.contains(told), "{told}: {log}");
    }

    file.rewrite("plugin = \"x\"\nbacklock = 9\n");
    reload("reload failed, nothing changed");
    assert!(host.log().contains("did you mean \"backlog\"?"), "{}", host.log());
    assert_eq!(ask(&host, 0), "bob\n");
}

/// The listener's own plugin where no route is for a connection; else the first that is.
#[test]
fn routes_choose_a_plugin_by_name_and_by_protocol() {
    let files = directory();
    let (certificate, key) = certificates::trusted().server(&["a.example", "b.example"]).write(files.path(), "server");
    let text = format!(
        "[[listener]]\nbind = \"tcp://127.0.0.1:0\"\nplugin = {hello}\ntls-certificate = {certificate}\ntls-key = {key}\n\
         tls-alpn = [\"shout\", \"talk\"]\n\n[[listener.route]]\nserver-name = \"a.example\"\nalpn = \"shout\"\nplugin = {fail}\n\n\
         [[listener.route]]\nserver-name = \"A.example\"\nplugin = {speaks}\n",
        hello = quoted(&plugin("hello")),
        fail = quoted(&plugin("fail")),
        speaks = quoted(&plugin("speaks-first")),
        certificate = quoted(&certificate),
        key = quoted(&key),
    );
    let file = File::saying(&text);
    let host = file.setup().option("--log-level", "debug").start_on(1);
    let client = || Client::to(&host);
    client().option("-servername", "a.example").ask("bob\n").shows("you said: bob").lacks("Hello");
    client()
        .option("-servername", "a.example")
        .option("-alpn", "talk")
        .ask("bob\n")
        .shows("you said: bob")
        .lacks("Hello");
    client().option("-servername", "b.example").option("-alpn", "shout").ask("bob\n").shows("Hello bob!");
    client().flag("-noservername").ask("bob\n").shows("Hello bob!");
    client().option("-servername", "a.example").option("-alpn", "shout").ask("bob\n").lacks("Hello");
    for served in ["plugin=speaks-first", "plugin=hello", "plugin=fail"] {
        wait_for(served, || host.log().contains(served).then_some(()));
    }
    // What is printed says the same.
    let (code, printed, err) = Setup::bare().argument("check").option("--config", &file.path).run();
    assert_eq!((code, printed.matches("[[listener.route]]").count()), (0, 2), "{err}");
    let (code, again, err) = Setup::bare().argument("check").option("--config", &File::saying(&printed).path).run();
    assert_eq!((code, again.matches("[[listener.route]]").count()), (0, 2), "{err}");
}

#[test]
fn a_route_that_nobody_could_take_is_a_mistake() {
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
