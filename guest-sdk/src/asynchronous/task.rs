//! Keeps a 0.3 handler running after `handle-request` has returned its output. It owns the one task
//! of the instance.
//!
//! In the contract the exported function returns a stream, and writes to it afterwards. The
//! bindings offer spawning for that, with an executor made for many tasks. A guest serves one
//! connection, so this module keeps one future and polls it directly by the bindings' waker. The
//! bindings leave the exported task open while the future waits.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

thread_local! {
    static TASK: RefCell<Option<Task>> = const { RefCell::new(None) };
    /// Woken while it was being polled, so it has to be polled again here.
    static WOKEN: Cell<bool> = const { Cell::new(false) };
}

struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    waker: Waker,
}

struct Resume;

impl Wake for Resume {
    fn wake(self: Arc<Self>) {
        resume();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        resume();
    }
}

/// Runs the future of this instance until it first waits. After that, wakes continue it.
pub(crate) fn start(future: impl Future<Output = ()> + 'static) {
    TASK.set(Some(Task { future: Box::pin(future), waker: Waker::from(Arc::new(Resume)) }));
    resume();
}

fn resume() {
    TASK.with(|slot| {
        let Ok(mut slot) = slot.try_borrow_mut() else {
            WOKEN.set(true);
            return;
        };
        while let Some(Task { future, waker }) = slot.as_mut() {
            WOKEN.set(false);
            if future.as_mut().poll(&mut Context::from_waker(waker)).is_ready() {
                *slot = None;
            } else if !WOKEN.get() {
                return;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::start;
    use std::cell::RefCell;
    use std::future::poll_fn;
    use std::rc::Rc;
    use std::task::{Poll, Waker};

    #[test]
    fn a_task_continues_when_it_is_woken_and_is_dropped_when_it_is_done() {
        let waiting = Rc::new(RefCell::new(None::<Waker>));
        let steps = Rc::new(RefCell::new(Vec::new()));
        let (given, told) = (Rc::clone(&waiting), Rc::clone(&steps));
        start(async move {
            for step in 0..3 {
                told.borrow_mut().push(step);
                let mut waited = false;
                poll_fn(|context| {
                    if std::mem::replace(&mut waited, true) {
                        return Poll::Ready(());
                    }
                    *given.borrow_mut() = Some(context.waker().clone());
                    Poll::Pending
                })
                .await;
            }
        });
        let wake = || waiting.take().map(Waker::wake);
        assert_eq!(*steps.borrow(), [0]);
        wake();
        assert_eq!(*steps.borrow(), [0, 1]);
        wake();
        wake();
        assert_eq!(*steps.borrow(), [0, 1, 2]);
        assert_eq!(Rc::strong_count(&steps), 1, "the future is gone");
    }

    #[test]
    fn a_task_that_wakes_itself_while_it_runs_is_polled_again() {
        let polls = Rc::new(RefCell::new(0));
        let counted = Rc::clone(&polls);
        start(poll_fn(move |context| {
            *counted.borrow_mut() += 1;
            context.waker().wake_by_ref();
            if *counted.borrow() < 5 { Poll::Pending } else { Poll::Ready(()) }
        }));
        assert_eq!(*polls.borrow(), 5);
    }
}
