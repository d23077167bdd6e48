//! Starts a host, talks to it, and ends it; when a test fails, prints all that the host said.

pub use crate::connections::{Address, Stream, Transport, connect, connect_from, read_line, read_to_end};

use crate::certificates;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    cell::Cell,
    ffi::OsString,
    fmt::Display,
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    panic,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, Once,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// The longest that anything here may take. Far more than it does, so that only what hangs is caught.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The same for a start, in which a large plugin may have to be compiled by a compiler that is not optimised itself.
const PATIENCE_TO_START: Duration = Duration::from_secs(600);

pub fn root() -> PathBuf {
    begin();
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The list of the tests that did not run, one line each. Each run of the black-box tests starts a new one.
pub fn list_of_skips() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("skipped")
}

/// Lists the test as skipped, with the reason. `SKIPS=fail .ci/run` fails by such a line.
pub fn skip(reason: impl Display) {
    list("skipped", &reason);
}

/// The same where nothing that can be installed would let the test run: the kernel, a limit or a user refuses it. `.ci/run`
/// lists these and does not fail.
pub fn cannot(reason: impl Display) {
    list("impossible here", &reason);
}

/// Whether the program is missing. If so, lists the test as skipped.
#[must_use]
pub fn skip_unless(program: &str) -> bool {
    // Debian keeps servers where only root looks.
    let find = "PATH=$PATH:/usr/sbin:/sbin command -v \"$0\"";
    let missing = !Command::new("sh").args(["-c", find, program]).output().unwrap().status.success();
    if missing {
        skip(format!("{program} is not installed"));
    }
    missing
}

fn list(how: &str, reason: &impl Display) {
    begin();
    let reason = reason.to_string().replace('\n', " ");
    let line = format!("{how}: {}: {reason}\n", test_name().as_deref().unwrap_or("a test"));
    eprint!("{line}");
    // One write, as tests append to it side by side.
    let mut list = fs::OpenOptions::new().create(true).append(true).open(list_of_skips()).unwrap();
    list.write_all(line.as_bytes()).unwrap();
}

/// The name of the test that this thread runs. Other threads have none, nor has the main thread, which runs the tests under
/// `--test-threads=1`.
fn test_name() -> Option<String> {
    thread::current().name().filter(|name| name.contains("::")).map(str::to_owned)
}

/// The seed for what this test chooses at random: that of the variable `SEED`, else a new one. A failure prints it.
pub fn seed() -> u64 {
    begin();
    let given = std::env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"));
    let new = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos() ^ std::process::id();
    let seed = given.unwrap_or_else(|| u64::from(new()));
    SEED.set(Some(seed));
    seed
}

thread_local! {
    /// What [`seed`] gave the test of this thread.
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Prepares the process once, before the first test uses it: a failing test prints the command that repeats it.
fn begin() {
    static BEGIN: Once = Once::new();
    // A thread that panics may not set a hook. It has used something of this file before, or has no test.
    if env!("CARGO_CRATE_NAME") != "black_box" || thread::panicking() {
        return;
    }
    BEGIN.call_once(|| {
        fs::remove_file(list_of_skips()).ok();
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            usual(panic);
            if let Some(name) = test_name() {
                let seed = SEED.get().map(|seed| format!("SEED={seed} ")).unwrap_or_default();
                eprintln!("to repeat: {seed}cargo test --workspace --test black-box -- --exact {name}");
            }
        }));
    });
}

/// A plugin or a test guest by its name, as `plugins/build` leaves it, or a path from the root.
pub fn plugin(name: &str) -> PathBuf {
    let places = [format!("target/plugins/{name}.wasm"), format!("target/test-guests/{name}.wasm"), name.to_owned()];
    let found = places.iter().map(|place| root().join(place)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("no plugin {name}: run plugins/build first"))
}

/// A directory for one test, removed when it has passed.
pub fn directory() -> tempfile::TempDir {
    begin();
    tempfile::tempdir().unwrap()
}

/// A host that is to be started.
pub struct Setup {
    /// What starts it, where it is not started directly.
    wrapper: Vec<OsString>,
    arguments: Vec<OsString>,
    environment: Vec<(String, String)>,
    /// What it inherits as descriptor 3.
    inherited: Option<OwnedFd>,
    /// Where its sockets or certificates are; removed when neither this nor a host that it has started is left.
    directory: Option<Arc<tempfile::TempDir>>,
    transport: Transport,
}

/// A path in the grammar of `--bind`.
pub fn unix_uri(path: &Path) -> String {
    format!("unix://{}", path.to_str().unwrap())
}

/// Addresses for what must know its port before it binds: a configuration file, a command line without a ready line, or a
/// listener that comes later. They are free, have one IP address of 127.0.0.0/8 that no other test has, and differ in their
/// ports. Only a socket bound to all addresses could take such a port before the test does.
pub fn own_addresses<const N: usize>() -> [SocketAddr; N] {
    static TESTS: AtomicU8 = AtomicU8::new(0);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    // Below 127.128 are the addresses that tests name themselves.
    let ip = Ipv4Addr::new(127, 128 + TESTS.fetch_add(1, Ordering::Relaxed) % 128, high, low);
    let held = [(); N].map(|()| TcpListener::bind((ip, 0)).unwrap());
    held.map(|socket| socket.local_addr().unwrap())
}

/// A cache that all tests share, so that each plugin is compiled once.
pub fn shared_cache() -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cache");
    fs::create_dir_all(&dir).unwrap();
    fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    dir
}

impl Setup {
    /// The bare binary.
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

    /// A host that serves a plugin on a port of the system's choice and logs everything.
    pub fn serving(name: &str) -> Self {
        Self::serving_over(Transport::Tcp, name)
    }

    /// The same with a plugin that a test has put somewhere.
    pub fn serving_file(plugin: &Path) -> Self {
        Self::loading(plugin).option("--bind", "tcp://127.0.0.1:0")
    }

    fn loading(plugin: &Path) -> Self {
        Self::bare().option("--plugin", plugin).option("--cache-dir", shared_cache()).option("--log-level", "debug")
    }

    /// The same over a transport: a port of the system's choice, or a socket in a directory of its own.
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

    /// Leaves connections out of the log, where there are so many that their records would bury what is looked for.
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

    /// Has another program start it: one that executes what its arguments end with, so that the process id is the host's, or
    /// one that waits for it and ends as it does.
    pub fn by_way_of(mut self, program: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.wrapper.extend(program.into_iter().map(Into::into));
        self
    }

    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// As the successor of whoever holds the other end of this channel.
    pub fn inheriting(mut self, channel: OwnedFd) -> Self {
        self.inherited = Some(channel);
        // By way of standard input, so that nothing else which this process starts meanwhile inherits it too.
        self.by_way_of(["sh", "-c", "exec \"$@\" 3<&0 </dev/null", "sh"]).environment("UNINTERRUPTIBLE_HANDOFF_FD", "3")
    }

    /// As a service manager starts it, with one socket of that name.
    pub fn passed(mut self, socket: impl Into<OwnedFd>, name: &str) -> Self {
        self.inherited = Some(socket.into());
        self.by_way_of(["sh", "-c", "export LISTEN_PID=$$; exec \"$@\" 3<&0 </dev/null", "sh"])
            .environment("LISTEN_FDS", "1")
            .environment("LISTEN_FDNAMES", name)
    }

    /// The command line of this host with others words added, for `--start-command`; none of them has a space.
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
        if let Some(inherited) = &self.inherited {
            command.stdin(inherited.try_clone().unwrap());
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs it to its end, for starts that are to fail: exit code, standard output, standard error.
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
        let mut child = self.command().spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let err = child.stderr.take().unwrap();
        let sink = Arc::clone(&log);
        let reader = thread::spawn(move || {
            for line in BufReader::new(err).lines().map_while(Result::ok) {
                let mut log = sink.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let out = child.stdout.take().unwrap();
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Host { child, lines, log, reader, addresses: Vec::new(), _directory: self.directory.clone(), ended: false }
    }

    /// Starts it and waits until it listens.
    pub fn start(&self) -> Host {
        self.start_on(self.arguments.iter().filter(|argument| *argument == "--bind").count().max(1))
    }

    /// The same where a file says on how many listeners.
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

/// A host that runs. When dropped it must end well on TERM, unless its end was awaited before.
pub struct Host {
    child: Child,
    lines: mpsc::Receiver<String>,
    log: Arc<Mutex<String>>,
    /// What reads its standard error into `log`, until no process has that any more.
    reader: thread::JoinHandle<()>,
    pub addresses: Vec<Address>,
    _directory: Option<Arc<tempfile::TempDir>>,
    ended: bool,
}

impl Host {
    pub fn serving(name: &str) -> Self {
        Setup::serving(name).start()
    }

    pub fn serving_over(transport: Transport, name: &str) -> Self {
        Setup::serving_over(transport, name).start()
    }

    /// The next line on its standard output.
    pub fn line(&mut self) -> String {
        self.lines
            .recv_timeout(PATIENCE_TO_START)
            .unwrap_or_else(|_| panic!("no ready line; the host said:\n{}", self.log()))
    }

    /// The next line on its standard output, or `None` where it ends without one.
    pub fn line_or_end(&mut self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE_TO_START) {
            Ok(line) => Some(line),
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                panic!("neither a line nor the end; the host said:\n{}", self.log())
            }
        }
    }

    /// What is left on its standard output; to be asked after its end.
    pub fn rest_of_output(&self) -> Vec<String> {
        self.lines.iter().collect()
    }

    pub fn pid(&self) -> i32 {
        self.child.id().try_into().unwrap()
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    pub fn connect(&self) -> Stream {
        connect(self.addresses[0])
    }

    /// Sends all of `request`, closes the sending side, and reads to the end.
    pub fn ask(&self, request: impl AsRef<[u8]>) -> Vec<u8> {
        let mut stream = self.connect();
        stream.write_all(request.as_ref()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        read_to_end(&mut stream)
    }

    /// Waits until the log has a line with all of `needles`, and returns it.
    pub fn logged(&self, needles: &[&str]) -> String {
        let found =
            || self.log().lines().find(|line| needles.iter().all(|needle| line.contains(needle))).map(str::to_owned);
        wait_for(&format!("a log line with {needles:?}"), found)
    }

    /// Waits for its end and returns the exit code.
    pub fn exit_code(&mut self) -> i32 {
        self.ended = true;
        let status = wait_for_exit(&mut self.child, "the host");
        status.code().unwrap_or_else(|| panic!("killed: {status}"))
    }

    /// Waits for its end, however it comes.
    pub fn await_end(&mut self) -> ExitStatus {
        self.ended = true;
        wait_for_exit(&mut self.child, "the host")
    }

    /// Whether its end was seen.
    pub fn has_been_awaited(&self) -> bool {
        self.ended
    }

    /// Ends it by TERM, and returns all that it has logged. Only then is it certain that a record is not there: the host writes
    /// its log later than it acts. No connection may be open any more.
    pub fn whole_log(mut self) -> String {
        let code = self.terminate();
        wait_for("the end of the log", || self.reader.is_finished().then_some(()));
        assert_eq!(code, 0, "the host's exit code; it said:\n{}", self.log());
        self.log()
    }

    /// The log while it runs, with all that it has logged so far: waits for a record of a connection of its own. The first listener
    /// must be one of TCP, and the log level `debug`.
    pub fn settled_log(&self) -> String {
        let mut stream = TcpStream::connect(self.addresses[0].tcp()).unwrap();
        let peer = format!("peer=tcp://{}", stream.local_addr().unwrap());
        stream.shutdown(Shutdown::Write).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // It may also be reset.
        io::copy(&mut stream, &mut io::sink()).ok();
        let is_there = |log: &str| log.lines().any(|line| line.split(' ').any(|word| word == peer));
        wait_for(&format!("a record with {peer}"), || Some(self.log()).filter(|log| is_there(log)))
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        self.ended = true;
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// TERM, then the exit code.
    pub fn terminate(&mut self) -> i32 {
        self.signal(Signal::SIGTERM);
        self.exit_code()
    }

    /// The CPU time that it has used, in hundredths of a second.
    pub fn cpu_ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        // After the name, which may contain anything: user and system time are the 12th and 13th fields.
        let fields = stat.rsplit_once(')').unwrap().1;
        fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
    }

    /// Whether STOP has reached it.
    pub fn is_stopped(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        stat.rsplit_once(')').unwrap().1.trim_start().starts_with('T')
    }

    /// A field of /proc/PID/status in KiB, such as `VmRSS`.
    pub fn status_kib(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("---- the host's log ----\n{}---- end of the host's log ----", self.log());
            let _ = self.child.kill();
            let _ = self.child.wait();
        } else if !self.ended {
            let code = self.terminate();
            assert_eq!(code, 0, "the host's exit code; it said:\n{}", self.log());
        }
    }
}

/// Asks again and again until there is an answer, for at most [`PATIENCE`].
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// Pauses where a test is about time that passes: a client that must be slow, or a period over which something is measured.
/// Whatever waits for an event calls [`wait_for`] instead.
pub fn pace(pause: Duration, reason: &str) {
    assert!(!reason.is_empty() && pause < PATIENCE, "{reason}");
    thread::park_timeout(pause);
}

fn wait_for_exit(child: &mut Child, what: &str) -> ExitStatus {
    wait_for(&format!("the end of {what}"), || child.try_wait().unwrap())
}

/// Clients that ask `hello` without a pause, until they are told to stop; each answer is checked.
pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<thread::JoinHandle<()>>,
}

impl Load {
    pub fn start(address: Address, clients: usize, request: &'static str, answer: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let clients = (0..clients)
            .map(|_| {
                let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
                thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let mut stream = connect(address);
                        stream.write_all(request.as_bytes()).unwrap();
                        assert_eq!(String::from_utf8_lossy(&read_to_end(&mut stream)), answer);
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        Self { stop, answered, clients }
    }

    /// Waits until so many more were answered.
    pub fn goes_on(&self, count: u64) {
        let goal = self.answered.load(Ordering::Relaxed) + count;
        wait_for("answers to the load", || (self.answered.load(Ordering::Relaxed) >= goal).then_some(()));
    }

    /// Ends it. Fails where any client was not answered rightly.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().expect("every client is answered");
        }
    }
}
