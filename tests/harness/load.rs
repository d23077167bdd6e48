//! Clients that ask without a pause.

use super::waiting::wait_for;
use crate::connections::{Address, connect, read_to_end};
use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

/// Clients that ask `hello` without a pause, until they are stopped; each answer is checked.
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

    /// Waits until that many more requests are answered.
    pub fn goes_on(&self, count: u64) {
        let goal = self.answered.load(Ordering::Relaxed) + count;
        wait_for("answers to the load", || (self.answered.load(Ordering::Relaxed) >= goal).then_some(()));
    }

    /// Stops them. Fails if a client got a wrong answer or none.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().expect("every client is answered");
        }
    }
}
