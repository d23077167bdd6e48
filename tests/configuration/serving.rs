//! A host that serves by a configuration file: precedence, listeners, routes, reload.

use super::{File, ask, quoted};
use crate::{
    certificates,
    harness::{Setup, directory, own_addresses, plugin, wait_for},
    openssl::Client,
};
use nix::sys::signal::Signal;

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
    let file = File::saying(&format!(
        "plugin = {}\nbind = \"tcp://127.0.0.1:0\"\nlog-level = \"error\"\nlog-format = \"json\"\ndrain-timeout = \"nonsense\"\n",
        quoted(&plugin("hello"))
    ));
    let setup = file.setup().environment("UNINTERRUPTIBLE_LOG_LEVEL", "info").option("--drain-timeout", "20s");
    let host = setup.start_on(1);
    assert_eq!(ask(&host, 0), "Hello bob!\n");
    let log = host.whole_log();
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
fn a_reload_reads_the_file_again_and_names_changes_that_need_a_restart() {
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
    for told in [
        "changed options need a restart options=\"--backlog\"",
        "removed listener needs a restart",
        "new listener needs a restart",
    ] {
        host.logged(&[told]);
    }

    file.rewrite("plugin = \"x\"\nbacklock = 9\n");
    reload("reload failed, nothing changed");
    host.logged(&["did you mean \"backlog\"?"]);
    assert_eq!(ask(&host, 0), "bob\n");
}

/// The first matching route decides; without one, the listener's own plugin serves.
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
    // The printed configuration has the same routes.
    let (code, printed, err) = Setup::bare().argument("check").option("--config", &file.path).run();
    assert_eq!((code, printed.matches("[[listener.route]]").count()), (0, 2), "{err}");
    let (code, again, err) = Setup::bare().argument("check").option("--config", &File::saying(&printed).path).run();
    assert_eq!((code, again.matches("[[listener.route]]").count()), (0, 2), "{err}");
}
