//! Threads of the lowest priority for guests that compute for long: the kernel runs them when no
//! other thread wants the processor.
//!
//! A guest moves there when it is interrupted as a heavy one, with all its state, and comes back
//! when its connection has moved a byte. The connection's task waits for it meanwhile, and does not
//! touch its state. These threads have no reactor, no timer and no blocking pool: operations that a
//! guest starts there run on the runtime that it comes from.

use super::meter::Meter;
use rustix::process::setpriority_process;
use std::{
    panic::resume_unwind,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    thread,
};
use tokio::{
    runtime::{Builder, Handle, Runtime},
    task::JoinHandle,
};
use tracing::error;

/// The lowest possible: the scheduler's weight of such a thread is 15, that of a normal one 1024.
const LOWEST_PRIORITY: i32 = 19;

/// As many threads as processors, shared by all guests of this process, and started at the first
/// use.
fn threads() -> Option<&'static Handle> {
    static THREADS: OnceLock<Runtime> = OnceLock::new();
    if THREADS.get().is_none() {
        let runtime = Builder::new_multi_thread()
            .worker_threads(thread::available_parallelism().map_or(1, usize::from))
            .thread_name("background")
            // On Linux this sets the priority of the calling thread. Lowering it is always
            // permitted.
            .on_thread_start(|| _ = setpriority_process(None, LOWEST_PRIORITY).ok())
            .build();
        match runtime {
            // Another thread may have started them first.
            Ok(runtime) => drop(THREADS.set(runtime).map_err(Runtime::shutdown_background)),
            Err(error) => error!(%error, "background threads unavailable"),
        }
    }
    THREADS.get().map(Runtime::handle)
}

type Call<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A guest's call, which can move between threads.
pub(super) struct Movable<T> {
    meter: Arc<Meter>,
    place: Place<T>,
}

enum Place<T> {
    Here(Call<T>),
    Background(JoinHandle<Left<T>>),
    Ended,
}

/// How a call leaves the background.
enum Left<T> {
    Ended(T),
    Light(Call<T>),
}

impl<T: Send + 'static> Movable<T> {
    pub(super) fn new(call: Call<T>, meter: Arc<Meter>) -> Self {
        Self { meter, place: Place::Here(call) }
    }

    /// Ends the call where it runs. When this returns, all its state is gone.
    pub(super) async fn stop(mut self) {
        if let Place::Background(task) = &mut self.place {
            task.abort();
            drop(task.await);
        }
    }
}

impl<T: Send + 'static> Future for Movable<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let this = &mut *self;
        loop {
            match &mut this.place {
                Place::Here(call) => {
                    if let Poll::Ready(output) = call.as_mut().poll(context) {
                        this.place = Place::Ended;
                        return Poll::Ready(output);
                    }
                    let leaves = this.meter.yielding() && this.meter.heavy();
                    let Some(threads) = leaves.then(threads).flatten() else { return Poll::Pending };
                    if let Place::Here(call) = std::mem::replace(&mut this.place, Place::Ended) {
                        let home = Handle::current();
                        let work = Work { call: Some(call), meter: Arc::clone(&this.meter), home };
                        this.place = Place::Background(threads.spawn(work));
                    }
                }
                Place::Background(task) => match ready!(Pin::new(task).poll(context)) {
                    Ok(Left::Ended(output)) => {
                        this.place = Place::Ended;
                        return Poll::Ready(output);
                    }
                    Ok(Left::Light(call)) => this.place = Place::Here(call),
                    Err(failed) => match failed.try_into_panic() {
                        Ok(panic) => resume_unwind(panic),
                        Err(_aborted) => this.place = Place::Ended,
                    },
                },
                Place::Ended => return Poll::Pending,
            }
        }
    }
}

impl<T> Drop for Movable<T> {
    fn drop(&mut self) {
        if let Place::Background(task) = &self.place {
            task.abort();
        }
    }
}

/// A call in the background.
struct Work<T> {
    call: Option<Call<T>>,
    meter: Arc<Meter>,
    /// The runtime that it comes from.
    home: Handle,
}

impl<T> Future for Work<T> {
    type Output = Left<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Left<T>> {
        let this = &mut *self;
        let _at_home = this.home.enter();
        // It is given away once, and this future then ends.
        let Some(call) = &mut this.call else { return Poll::Pending };
        this.meter.in_background(true);
        let polled = call.as_mut().poll(context);
        this.meter.in_background(false);
        match polled {
            Poll::Ready(output) => Poll::Ready(Left::Ended(output)),
            Poll::Pending if this.meter.heavy() => Poll::Pending,
            Poll::Pending => this.call.take().map_or(Poll::Pending, |call| Poll::Ready(Left::Light(call))),
        }
    }
}

impl<T> Drop for Work<T> {
    /// A guest's state may have to be dropped on the runtime where it was created.
    fn drop(&mut self) {
        let _at_home = self.home.enter();
        self.call = None;
    }
}
