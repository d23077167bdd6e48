//! The commands, at the endpoint and as subcommands, in each state where they differ. Clients ask
//! all the time, and each must be answered.

use crate::{
    harness::{Load, Setup, directory, plugin, read_line, read_to_end, wait_for},
    operator::{Operated, Operator, told},
    service::{exit_code, generation},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{fs, io::Write};

fn load(operated: &Operated) -> Load {
    Load::start(operated.service.host.addresses[0], 4, "bob\n", "Hello bob!\n")
}

fn watched() -> Setup {
    Setup::serving("hello").option("--rollback-window", "60s")
}

fn successor(operated: &Operated) -> i32 {
    generation(&operated.service.host.logged(&["serving, predecessor watching"])).pid
}

#[test]
fn a_restart_answers_when_the_successor_serves() {
    let operated = Operated::start(watched());
    let load = load(&operated);
    let (code, out, err) = operated.operator.run(&["restart"]);
    assert_eq!((code, &*err), (0, ""), "{out}");
    let pid = successor(&operated);
    assert_eq!(out, format!("generation 2 serves (process {pid})\n"));
    let status = operated.operator.status();
    assert_eq!(
        (&status["state"], &status["generation"], &status["pid"]),
        (&"probation".into(), &2.into(), &pid.into())
    );
    load.goes_on(20);
    load.stop();
    operated.service.forgo_window();
}

#[test]
fn a_restart_can_wait_until_it_is_settled() {
    let operated = Operated::start(Setup::serving("hello").option("--rollback-window", "300ms"));
    let load = load(&operated);
    for number in 2..5 {
        let (code, out, err) = operated.operator.run(&["restart", "--wait-settled"]);
        assert_eq!((code, &*err), (0, ""), "{out}");
        assert!(
            out.contains(&format!("generation {number} serves")) && out.contains("rollback window is over"),
            "{out}"
        );
        let status = operated.operator.reaches("serving");
        assert_eq!(status["generation"], number);
        assert_eq!(status["restarts"]["done"], number - 1);
        assert_eq!(status["restarts"]["last"]["outcome"], "done");
    }
    load.stop();
}

#[test]
fn a_restart_that_fails_says_why_and_nothing_has_changed() {
    let directory = directory();
    let file = directory.path().join("hello.wasm");
    fs::copy(plugin("hello"), &file).unwrap();
    let operated = Operated::start(Setup::serving_file(&file));
    let load = load(&operated);
    fs::write(&file, "no plugin").unwrap();
    let (code, out, err) = operated.operator.run(&["restart"]);
    assert_eq!((code, &*out), (1, ""), "{err}");
    assert!(err.contains("restart: generation 1 continues: ") && err.contains("hello.wasm"), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
    let (code, outcome, _) = operated.operator.post("/restart");
    assert_eq!((code, &*outcome), (500, "failed"));
    let status = operated.operator.status();
    assert_eq!((&status["state"], &status["generation"]), (&"serving".into(), &1.into()));
    assert_eq!((&status["restarts"]["failed"], &status["restarts"]["last"]["outcome"]), (&2.into(), &"failed".into()));
    load.goes_on(20);
    load.stop();
}

#[test]
fn concurrent_restart_commands_run_one_restart() {
    let operated = Operated::start(watched());
    operated.service.inject("successor before-sending hello stop");
    let first = operated.operator.subcommand(&["restart"]);
    let pid: i32 = {
        let record = operated.service.host.logged(&["successor started"]);
        record.rsplit_once("successor=").unwrap().1.parse().unwrap()
    };
    let second = operated.operator.subcommand(&["restart"]);
    operated.service.host.logged(&["command joins the restart"]);
    assert_eq!(operated.operator.status()["state"], "offering");
    operated.service.inject("");
    kill(Pid::from_raw(pid), Signal::SIGCONT).unwrap();
    for asked in [first, second] {
        assert_eq!(told(asked), (0, format!("generation 2 serves (process {pid})\n"), String::new()));
    }
    operated.service.forgo_window();
}

#[test]
fn a_rollback_makes_the_predecessor_serve_again() {
    let operated = Operated::start(watched());
    let load = load(&operated);
    assert_eq!(operated.operator.run(&["restart"]).0, 0);
    let pid = successor(&operated);
    load.goes_on(20);
    let (code, out, err) = operated.operator.run(&["rollback"]);
    assert_eq!((code, &*out), (0, "rolled back: generation 1 serves again\n"), "{err}");
    let status = operated.operator.reaches("serving");
    assert_eq!((&status["generation"], &status["pid"]), (&1.into(), &operated.service.host.pid().into()));
    assert_eq!(status["restarts"]["failed"], 1);
    assert!(status["restarts"]["last"]["detail"].as_str().unwrap().contains("rolled back"), "{status}");
    assert!(status["connections"]["accepted"].as_u64().unwrap() >= 20, "the successor's are counted: {status}");
    load.goes_on(20);
    load.stop();
    wait_for("the end of the successor", || (!fs::exists(format!("/proc/{pid}")).unwrap()).then_some(()));
}

#[test]
fn a_restart_that_waits_for_the_window_learns_of_a_rollback_and_of_a_death() {
    let operated = Operated::start(watched());
    let waiting = operated.operator.subcommand(&["restart", "--wait-settled"]);
    successor(&operated);
    operated.operator.reaches("probation");
    assert_eq!(operated.operator.run(&["rollback"]).0, 0);
    let (code, _, err) = told(waiting);
    assert!(code == 1 && err.contains("restart: rolled back: generation 1 serves again"), "{code}: {err}");

    let waiting = operated.operator.subcommand(&["restart", "--wait-settled"]);
    let second = wait_for("a second successor", || {
        Some(operated.operator.status()).filter(|status| status["state"] == "probation")
    });
    kill(Pid::from_raw(second["pid"].as_i64().unwrap().try_into().unwrap()), Signal::SIGKILL).unwrap();
    let (code, _, err) = told(waiting);
    assert!(code == 1 && err.contains("restart: the successor died within the rollback window"), "{code}: {err}");
    assert_eq!(operated.operator.reaches("serving")["generation"], 1);
}

#[test]
fn a_rollback_aborts_a_restart_under_way() {
    let operated = Operated::start(watched());
    operated.service.inject("successor before-sending hello stop");
    let restart = operated.operator.subcommand(&["restart"]);
    operated.operator.reaches("offering");
    let (code, out, err) = operated.operator.run(&["rollback"]);
    assert!(code == 0 && out.contains("aborted; generation 1 continues"), "{code}: {out}{err}");
    let (code, _, err) = told(restart);
    assert!(code == 1 && err.contains("aborted by a rollback"), "{code}: {err}");
    assert_eq!(operated.operator.status()["state"], "serving");
}

#[test]
fn a_rollback_times_out_without_an_answer_of_the_predecessor() {
    let operated = Operated::start(watched());
    assert_eq!(operated.operator.run(&["restart"]).0, 0);
    operated.service.host.signal(Signal::SIGSTOP);
    let (code, outcome, detail) = operated.operator.post("/rollback");
    assert_eq!((code, &*outcome), (500, "failed"), "{detail}");
    assert!(detail.contains("did not answer; this process continues"), "{detail}");
    assert_eq!(operated.service.host.ask("bob\n"), b"Hello bob!\n");
    // It runs the command when it continues.
    operated.service.host.signal(Signal::SIGCONT);
    assert_eq!(operated.operator.reaches("serving")["generation"], 1);
}

#[test]
fn a_reload_answers_with_its_outcome() {
    let directory = directory();
    let file = directory.path().join("plugin.wasm");
    fs::copy(plugin("hello"), &file).unwrap();
    let operated = Operated::start(Setup::serving_file(&file));
    let before = operated.operator.status()["plugins"][0]["sha256"].clone();
    fs::write(&file, "no plugin").unwrap();
    let (code, _, err) = operated.operator.run(&["reload"]);
    assert!(code == 1 && err.contains("reload: nothing changed: ") && err.contains("plugin.wasm"), "{err}");
    assert_eq!(operated.operator.status()["plugins"][0]["sha256"], before);
    fs::remove_file(&file).unwrap();
    fs::copy(plugin("echo"), &file).unwrap();
    assert_eq!(operated.operator.run(&["reload"]), (0, "new connections get the new version\n".into(), String::new()));
    let status = operated.operator.status();
    assert_ne!(status["plugins"][0]["sha256"], before);
    assert_eq!((&status["reloads"]["done"], &status["reloads"]["failed"]), (&1.into(), &1.into()));
    assert_eq!(operated.service.host.ask("bob\n"), b"bob\n");
}

#[test]
fn the_successor_runs_reloads_of_the_restart_and_of_the_window() {
    let operated = Operated::start(watched());
    operated.service.inject("successor before-sending hello stop");
    let restart = operated.operator.subcommand(&["restart"]);
    let status = operated.operator.reaches("offering");
    let pid: i32 = status["successor"].as_i64().unwrap().try_into().unwrap();
    let reload = operated.operator.subcommand(&["reload"]);
    operated.service.host.logged(&["command deferred until the restart ends"]);
    operated.service.inject("");
    kill(Pid::from_raw(pid), Signal::SIGCONT).unwrap();
    assert_eq!(told(restart).0, 0);
    assert_eq!(told(reload), (0, "new connections get the new version\n".into(), String::new()));
    let status = operated.operator.status();
    assert_eq!((&status["state"], &status["reloads"]["done"]), (&"probation".into(), &1.into()));
    operated.service.forgo_window();
}

#[test]
fn a_restart_in_the_window_ends_it_and_runs_in_the_successor() {
    let mut operated = Operated::start(watched());
    assert_eq!(operated.operator.run(&["restart"]).0, 0);
    let (code, out, err) = operated.operator.run(&["restart"]);
    assert!(code == 0 && out.contains("generation 3 serves"), "{code}: {out}{err}");
    assert_eq!(operated.service.host.exit_code(), 0);
    assert_eq!(operated.operator.reaches("probation")["generation"], 3);
    operated.service.forgo_window();
}

#[test]
fn a_stop_drains_connections_and_a_second_one_closes_them() {
    let mut operated = Operated::start(Setup::serving("speaks-first"));
    let mut open = operated.service.host.connect();
    assert_eq!(read_line(&mut open), "ready\n");
    assert_eq!(operated.operator.run(&["stop"]), (0, "stopping: 1 connections finish\n".into(), String::new()));
    let status = operated.operator.reaches("stopping");
    assert_eq!(status["connections"]["open"], 1);
    for (path, why) in
        [("/restart", "this process stops"), ("/rollback", "this process stops"), ("/reload", "log file")]
    {
        let (code, outcome, detail) = operated.operator.post(path);
        assert!(code == 409 && outcome == "refused" && detail.contains(why), "{path}: {code}: {detail}");
    }
    let (code, outcome, detail) = operated.operator.post("/stop");
    assert_eq!((code, &*outcome, &*detail), (200, "done", "stopped at once: 1 connections were closed"));
    assert_eq!(operated.service.host.exit_code(), 1);
    assert_eq!(read_to_end(&mut open), b"");
    operated.service.abandon();
}

#[test]
fn a_stop_aborts_a_restart() {
    let mut operated = Operated::start(watched());
    operated.service.inject("successor before-sending hello stop");
    let restart = operated.operator.subcommand(&["restart"]);
    operated.operator.reaches("offering");
    assert_eq!(operated.operator.run(&["stop"]).0, 0);
    let (code, _, err) = told(restart);
    assert!(code == 1 && err.contains("aborted: the service was told to stop"), "{code}: {err}");
    assert_eq!(operated.service.host.exit_code(), 0);
    operated.service.abandon();
}

#[test]
fn a_stop_in_the_window_runs_in_the_successor_after_its_predecessor_ends() {
    let operated = Operated::start(watched());
    assert_eq!(operated.operator.run(&["restart"]).0, 0);
    let pid = successor(&operated);
    assert_eq!(operated.operator.run(&["stop"]).0, 0);
    operated.service.host.logged(&["command forwarded to the successor"]);
    operated.service.ends(pid);
}

/// The answer is lost with a predecessor that is killed, and the subcommand finds out the outcome
/// by itself.
#[test]
fn a_restart_survives_the_process_that_received_the_command() {
    let mut operated = Operated::start(watched());
    let waiting = operated.operator.subcommand(&["restart", "--wait-settled"]);
    let pid = successor(&operated);
    operated.operator.reaches("probation");
    operated.service.host.kill();
    let (code, out, err) = told(waiting);
    assert!(code == 0 && out.contains(&format!("generation 2 serves (process {pid})")), "{code}: {out}{err}");
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    assert_eq!(exit_code(pid), Some(0));
    operated.service.abandon();
}

#[test]
fn an_unreachable_endpoint_is_reported_in_one_line() {
    let directory = directory();
    let operator = Operator::at_path(directory.path().join("admin.sock"));
    for verb in ["status", "restart", "rollback", "reload", "stop"] {
        let (code, out, err) = operator.run(&[verb]);
        assert_eq!((code, &*out, err.lines().count()), (3, "", 1), "{err}");
        assert!(err.contains(&format!("{verb} at --admin {}: no host answers there", operator.uri)), "{err}");
    }
    let (code, _, err) = Setup::bare().argument("status").run();
    assert!(code == 2 && err.contains("--admin is missing"), "{code}: {err}");
}

#[test]
fn the_endpoint_is_found_in_the_configuration_file_too() {
    let directory = directory();
    let operator = Operator::at_path(directory.path().join("admin.sock"));
    let file = directory.path().join("host.toml");
    let host = plugin("hello");
    fs::write(&file, format!("plugin = {host:?}\nbind = \"tcp://127.0.0.1:0\"\nadmin = {:?}\n", operator.uri)).unwrap();
    let _host = Setup::bare().option("--config", &file).start();
    for by in [Setup::bare().argument("status").option("--config", &file), {
        Setup::bare().argument("status").environment("UNINTERRUPTIBLE_ADMIN", &operator.uri)
    }] {
        let (code, out, err) = by.run();
        assert!(code == 0 && out.starts_with("generation 1 (process "), "{code}: {out}{err}");
        assert!(out.contains("listener     tcp://127.0.0.1:") && out.contains("plugin       hello"), "{out}");
    }
    let (code, out, _) = Setup::bare().argument("status").argument("--json").option("--admin", &operator.uri).run();
    assert_eq!(code, 0);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&out).unwrap()["generation"], 1);
}

#[test]
fn counters_continue_across_restarts_with_open_connections_of_each_generation() {
    let setup = Setup::serving("speaks-first").option("--rollback-window", "100ms");
    let operated = Operated::start(setup);
    let mut old = operated.service.host.connect();
    assert_eq!(read_line(&mut old), "ready\n");
    let mut done = operated.service.host.connect();
    done.write_all(b"x\n").unwrap();
    read_to_end(&mut done);
    wait_for("one that is finished", || {
        (operated.operator.metric("uninterruptible_connections_finished_total") == 1.0).then_some(())
    });
    let (code, out, err) = operated.operator.run(&["restart", "--wait-settled"]);
    assert_eq!(code, 0, "{out}{err}");
    let status = wait_for("word from the predecessor", || {
        Some(operated.operator.status()).filter(|status| status["draining"][0]["connections"] == 1)
    });
    assert_eq!(status["draining"][0]["generation"], 1);
    assert_eq!(status["draining"][0]["pid"], operated.service.host.pid());
    assert_eq!((&status["connections"]["accepted"], &status["connections"]["open"]), (&2.into(), &0.into()));
    old.write_all(b"bye\n").unwrap();
    assert_eq!(read_to_end(&mut old), b"you said: bye\n");
    let status = wait_for("the end of the predecessor", || {
        Some(operated.operator.status()).filter(|status| status["draining"].as_array().unwrap().is_empty())
    });
    assert_eq!((&status["connections"]["accepted"], &status["connections"]["finished"]), (&2.into(), &2.into()));
}

#[test]
fn a_successor_with_another_endpoint_leaves_the_old_one_until_it_is_settled() {
    let directory = directory();
    let other = Operator::at_path(directory.path().join("other.sock"));
    let setup = Setup::serving("hello");
    let command = setup.command_line(&["--rollback-window", "60s", "--admin", &other.uri]);
    let operated = Operated::start(setup.option("--rollback-window", "60s").option("--start-command", command));
    assert_eq!(operated.operator.post("/restart").0, 200);
    assert_eq!(operated.operator.status()["state"], "watching");
    assert_eq!(other.status()["state"], "probation");
    let (code, outcome, detail) = operated.operator.post("/stop");
    assert!(code == 409 && outcome == "refused" && detail.contains("another admin endpoint"), "{code}: {detail}");
    let pid = successor(&operated);
    kill(Pid::from_raw(operated.service.host.pid()), Signal::SIGUSR1).unwrap();
    operated.service.host.logged(&[&format!("[{pid}/2]"), "restart settled"]);
    let old = operated.operator.uri.strip_prefix("unix://").unwrap().to_owned();
    wait_for("the end of the old path", || (!fs::exists(&old).unwrap()).then_some(()));
    wait_for("the third generation", || Some(other.status()).filter(|status| status["generation"] == 3));
    operated.service.forgo_window();
}
