//! A host that runs, until its end.

use super::{
    setup::Setup,
    waiting::{PATIENCE, wait_for, wait_for_exit},
};
use crate::connections::{Address, Stream, Transport, connect, read_to_end};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    net::{Shutdown, TcpStream},
    process::{Child, ExitStatus},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

/// The longest that a start may take. An unoptimised compiler may have to compile a large plugin.
const PATIENCE_TO_START: Duration = Duration::from_secs(600);

/// A running host. When dropped it must exit with 0 on TERM, unless a test has waited for its end
/// before.
pub struct Host {
    child: Child,
    lines: mpsc::Receiver<String>,
    log: Arc<Mutex<String>>,
    /// Reads its standard error into `log`, until every process has closed that.
    reader: thread::JoinHandle<()>,
    pub addresses: Vec<Address>,
    _directory: Option<Arc<tempfile::TempDir>>,
    ended: bool,
}

impl Host {
    /// Takes a host that [`Setup`] has started. The directory lives as long as the host.
    pub(super) fn of(mut child: Child, directory: Option<Arc<tempfile::TempDir>>) -> Self {
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
        Self { child, lines, log, reader, addresses: Vec::new(), _directory: directory, ended: false }
    }

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

    /// The rest of its standard output; call it after the end.
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

    /// Waits for its end, whether an exit or a signal.
    pub fn await_end(&mut self) -> ExitStatus {
        self.ended = true;
        wait_for_exit(&mut self.child, "the host")
    }

    /// Whether a test has waited for its end.
    pub fn has_been_awaited(&self) -> bool {
        self.ended
    }

    /// Ends it by TERM, and returns its whole log. Only then is it certain that a record is
    /// missing: the host writes its log later than it acts. No connection may be open any more.
    pub fn whole_log(mut self) -> String {
        let code = self.terminate();
        wait_for("the end of the log", || self.reader.is_finished().then_some(()));
        assert_eq!(code, 0, "the host's exit code; it said:\n{}", self.log());
        self.log()
    }

    /// The log of a running host, with every record up to now: makes a connection and waits for its
    /// record. The first listener must be TCP, and the log level `debug`.
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

    /// Kills it, as a crash would.
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
        // After the name, which may contain anything: user and system time are the 12th and 13th
        // fields.
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
