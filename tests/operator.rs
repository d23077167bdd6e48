//! The operator of a host: uses the admin endpoint with `curl`, and the subcommands.

use crate::{
    harness::{Setup, directory, wait_for},
    service::Service,
};
use serde_json::Value;
use std::{
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
};

/// A service with an endpoint at a path.
pub struct Operated {
    pub service: Service,
    pub operator: Operator,
    _directory: tempfile::TempDir,
}

/// The path of the endpoint.
pub struct Operator {
    pub uri: String,
    socket: Option<PathBuf>,
}

impl Operated {
    pub fn start(setup: Setup) -> Self {
        let directory = directory();
        let operator = Operator::at_path(directory.path().join("admin.sock"));
        let service = Service::start(setup.option("--admin", &operator.uri));
        Self { service, operator, _directory: directory }
    }
}

impl Operator {
    pub fn at_path(socket: PathBuf) -> Self {
        Self { uri: format!("unix://{}", socket.display()), socket: Some(socket) }
    }

    pub fn at_tcp(address: &str) -> Self {
        Self { uri: format!("tcp://{address}"), socket: None }
    }

    /// `curl` with these options, at a path of the endpoint.
    pub fn curl(&self, words: &[&str], path: &str) -> Output {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "60"]).args(words);
        match &self.socket {
            Some(socket) => curl.arg("--unix-socket").arg(socket).arg(format!("http://localhost{path}")),
            None => curl.arg(format!("http{}{path}", self.uri.strip_prefix("tcp").unwrap())),
        };
        curl.stdin(Stdio::null()).output().expect("curl")
    }

    /// The status code and the body of the response.
    pub fn ask(&self, words: &[&str], path: &str) -> (u16, String) {
        let output = self.curl(&[words, &["-w", "\n%{http_code}"]].concat(), path);
        let text = String::from_utf8(output.stdout).unwrap();
        let (body, code) = text.rsplit_once('\n').unwrap();
        assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
        (code.parse().unwrap(), body.to_owned())
    }

    pub fn get(&self, path: &str) -> String {
        let (code, body) = self.ask(&[], path);
        assert_eq!(code, 200, "{path}: {body}");
        body
    }

    pub fn status(&self) -> Value {
        serde_json::from_str(&self.get("/status")).unwrap()
    }

    /// Sends a command, and returns the status code, the outcome and the detail.
    pub fn post(&self, path: &str) -> (u16, String, String) {
        let (code, body) = self.ask(&["-X", "POST"], path);
        let answer: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{path}: {code}: {body}"));
        let text = |name: &str| answer[name].as_str().unwrap().to_owned();
        (code, text("outcome"), text("detail"))
    }

    /// Waits until the status has this state.
    pub fn reaches(&self, state: &str) -> Value {
        wait_for(&format!("state {state}"), || Some(self.status()).filter(|status| status["state"] == state))
    }

    /// A value of the metrics, by its whole name with labels.
    pub fn metric(&self, name: &str) -> f64 {
        let metrics = self.get("/metrics");
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in\n{metrics}")).parse().unwrap()
    }

    pub fn subcommand(&self, words: &[&str]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_uninterruptible-host"));
        command.args(words).args(["--admin", &self.uri, "--timeout", "60s"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Its exit code, standard output and standard error.
    pub fn run(&self, words: &[&str]) -> (i32, String, String) {
        told(self.subcommand(words))
    }
}

pub fn told(command: Child) -> (i32, String, String) {
    let output = command.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}
