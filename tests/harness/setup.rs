//! The command line and environment of a host, and its start.

use super::{
    host::Host,
    places::{directory, plugin, shared_cache, unix_uri},
    run::begin,
    waiting::wait_for_exit,
};
use crate::{
    certificates,
    connections::{Address, Transport},
};
use std::{
    ffi::OsString,
    io::Read,
    os::fd::OwnedFd,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
};

/// A host that is not started yet.
pub struct Setup {
    /// The program that starts it, where that is not the test.
    wrapper: Vec<OsString>,
    arguments: Vec<OsString>,
    environment: Vec<(String, String)>,
    /// Its descriptor 3.
    inherited: Option<OwnedFd>,
    /// The directory of its sockets or certificates, removed after this and every host that it has
    /// started.
    directory: Option<Arc<tempfile::TempDir>>,
    transport: Transport,
}

impl Setup {
    /// The bare binary, without options.
    pub fn bare() -> Self {
        begin();
        Self {
            wrapper: Vec::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
            inherited: None,
            directory: None,
            transport: Transport::Tcp,
        }
    }

    /// A host that serves a plugin on a port that the system chooses, and logs at `debug`.
    pub fn serving(name: &str) -> Self {
        Self::serving_over(Transport::Tcp, name)
    }

    /// The same with the file of a plugin.
    pub fn serving_file(plugin: &Path) -> Self {
        Self::loading(plugin).option("--bind", "tcp://127.0.0.1:0")
    }

    fn loading(plugin: &Path) -> Self {
        Self::bare().option("--plugin", plugin).option("--cache-dir", shared_cache()).option("--log-level", "debug")
    }

    /// The same over a transport: a port that the system chooses, or a socket in a directory of its
    /// own.
    pub fn serving_over(transport: Transport, name: &str) -> Self {
        let setup = Self { transport, ..Self::loading(&plugin(name)) };
        match transport {
            Transport::Tcp => setup.option("--bind", "tcp://127.0.0.1:0"),
            Transport::Unix => {
                let sockets = directory();
                let setup = setup.option("--bind", unix_uri(&sockets.path().join("host.sock")));
                Self { directory: Some(Arc::new(sockets)), ..setup }
            }
            Transport::Tls => {
                let files = directory();
                let (certificate, key) = certificates::localhost().write(files.path(), "localhost");
                let setup = setup.option("--bind", "tcp://127.0.0.1:0");
                let setup = setup.option("--tls-certificate", certificate).option("--tls-key", key);
                Self { directory: Some(Arc::new(files)), ..setup }
            }
        }
    }

    /// Leaves out the records of connections, where they would bury the records that a test looks
    /// for.
    pub fn without_records_of_connections(mut self) -> Self {
        self.arguments.iter_mut().filter(|argument| *argument == "debug").for_each(|level| *level = "info".into());
        self
    }

    pub fn option(self, name: &str, value: impl Into<OsString>) -> Self {
        self.argument(name).argument(value)
    }

    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Lets another program start it. The program either executes its last arguments, so that it
    /// keeps the process id, or waits for the host and exits as the host does.
    pub fn by_way_of(mut self, program: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.wrapper.extend(program.into_iter().map(Into::into));
        self
    }

    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// As the successor of the process at the other end of this channel.
    pub fn inheriting(mut self, channel: OwnedFd) -> Self {
        self.inherited = Some(channel);
        // Through standard input, so that no other process that this one starts meanwhile inherits
        // it too.
        self.by_way_of(["sh", "-c", "exec \"$@\" 3<&0 </dev/null", "sh"]).environment("UNINTERRUPTIBLE_HANDOFF_FD", "3")
    }

    /// As a service manager starts it, with one socket of that name.
    pub fn passed(mut self, socket: impl Into<OwnedFd>, name: &str) -> Self {
        self.inherited = Some(socket.into());
        self.by_way_of(["sh", "-c", "export LISTEN_PID=$$; exec \"$@\" 3<&0 </dev/null", "sh"])
            .environment("LISTEN_FDS", "1")
            .environment("LISTEN_FDNAMES", name)
    }

    /// The command line of this host with more words, for `--start-command`. No word may contain a
    /// space.
    pub fn command_line(&self, more: &[&str]) -> String {
        let words = self.arguments.iter().map(|word| word.to_str().unwrap()).chain(more.iter().copied());
        [env!("CARGO_BIN_EXE_uninterruptible-host")].into_iter().chain(words).collect::<Vec<_>>().join(" ")
    }

    fn command(&self) -> Command {
        let host = OsString::from(env!("CARGO_BIN_EXE_uninterruptible-host"));
        let mut words = self.wrapper.iter().chain([&host]).chain(&self.arguments);
        let mut command = Command::new(words.next().unwrap());
        command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, _) in
            std::env::vars().filter(|(name, _)| name.starts_with("UNINTERRUPTIBLE_") || name.contains("TLS_"))
        {
            command.env_remove(name);
        }
        command.env_remove("PORT");
        // To run any test with the engine's component layer.
        if let Some(when) = std::env::var_os("COMPONENT_LAYER") {
            command.env("UNINTERRUPTIBLE_COMPONENT_LAYER", when);
        }
        if let Some(inherited) = &self.inherited {
            command.stdin(inherited.try_clone().unwrap());
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs it to its end, for starts that must fail: exit code, standard output, standard error.
    pub fn run(&self) -> (i32, String, String) {
        let mut child = self.command().spawn().unwrap();
        let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let out = thread::spawn(move || {
            let mut text = String::new();
            out.read_to_string(&mut text).map(|_| text)
        });
        let err = thread::spawn(move || {
            let mut text = String::new();
            err.read_to_string(&mut text).map(|_| text)
        });
        let status = wait_for_exit(&mut child, "a host that was to fail at boot");
        (status.code().expect("an exit code"), out.join().unwrap().unwrap(), err.join().unwrap().unwrap())
    }

    /// Starts it without waiting for anything.
    pub fn spawn(&self) -> Host {
        Host::of(self.command().spawn().unwrap(), self.directory.clone())
    }

    /// Starts it and waits until it listens.
    pub fn start(&self) -> Host {
        self.start_on(self.arguments.iter().filter(|argument| *argument == "--bind").count().max(1))
    }

    /// The same where a configuration file has that many listeners.
    pub fn start_on(&self, listeners: usize) -> Host {
        let mut host = self.spawn();
        for _ in 0..listeners {
            let line = host.line();
            host.addresses.push(match (Address::of_ready_line(&line), self.transport) {
                (Address::Tcp(address), Transport::Tls) => Address::Tls(address),
                (address, _) => address,
            });
        }
        host
    }
}
