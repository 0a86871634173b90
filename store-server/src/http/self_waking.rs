//! [`SelfWaking`]: a future that wakes itself while it is polled.

use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// How often a future is polled in one turn; one that goes on waking itself waits for the others.
const POLLS_MAX: usize = 4;

/// Nobody polls: who wakes the future wakes the task.
const IDLE: u8 = 0;
/// The future is being polled.
const POLLED: u8 = 1;
/// It was woken: it will be polled once more.
const WOKEN: u8 = 2;

/// Polls a future again at once if it was woken while it was polled.
///
/// A connection wakes itself whenever it hands on a part of a body. The runtime then puts its task at the end of a
/// queue and wakes another thread, which comes to find nothing, or to take the task away from the processor that has
/// its data: as long as the answer to a small request takes.
pub(super) struct SelfWaking<F> {
    future: F,
    relay: Arc<Relay>,
    waker: Waker,
}

struct Relay {
    state: AtomicU8,
    task: Mutex<Waker>,
}

impl<F> SelfWaking<F> {
    pub(super) fn new(future: F) -> Self {
        let relay = Arc::new(Relay { state: AtomicU8::new(IDLE), task: Mutex::new(Waker::noop().clone()) });
        let waker = Waker::from(Arc::clone(&relay));
        Self { future, relay, waker }
    }
}

impl<F: Future + Unpin> Future for SelfWaking<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { future, relay, waker } = &mut *self;
        relay.task.lock().unwrap_or_else(PoisonError::into_inner).clone_from(cx.waker());
        for _ in 0..POLLS_MAX {
            // Read and written at once, here and by who wakes: what was there to be seen before the wake is seen now.
            relay.state.swap(POLLED, Ordering::AcqRel);
            let polled = Pin::new(&mut *future).poll(&mut Context::from_waker(waker));
            if polled.is_ready() {
                return polled;
            }
            let was = relay.state.compare_exchange(POLLED, IDLE, Ordering::AcqRel, Ordering::Acquire);
            if was.is_ok() {
                return Poll::Pending;
            }
        }
        relay.state.swap(IDLE, Ordering::AcqRel);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Wake for Relay {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(WOKEN, Ordering::AcqRel) == IDLE {
            let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).clone();
            task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// How often a future that wakes itself so many times was polled in one turn, and how often its task was woken.
    fn turn(wakes: usize) -> (usize, usize) {
        let counted = Arc::new(Counted::default());
        let mut polls = 0;
        let future = poll_fn(|cx| {
            polls += 1;
            if polls <= wakes {
                cx.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        });
        let mut future = SelfWaking::new(future);
        let waker = Waker::from(Arc::clone(&counted));
        assert!(Pin::new(&mut future).poll(&mut Context::from_waker(&waker)).is_pending());
        drop(future);
        (polls, counted.0.load(Ordering::SeqCst))
    }

    #[test]
    fn what_wakes_itself_is_polled_again_and_its_task_is_not_woken() {
        assert_eq!(turn(0), (1, 0));
        assert_eq!(turn(1), (2, 0));
        assert_eq!(turn(POLLS_MAX - 1), (POLLS_MAX, 0));
    }

    #[test]
    fn what_wakes_itself_without_end_lets_others_have_their_turn() {
        assert_eq!(turn(usize::MAX), (POLLS_MAX, 1));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_wake_of_another_thread_is_lost() {
        let (sender, receiver) = std::sync::mpsc::channel::<Waker>();
        let woken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&woken);
        let other = std::thread::spawn(move || {
            // Now before the poll is over, now after it.
            for (turn, waker) in receiver.iter().enumerate() {
                (0..turn % 300).for_each(|_| std::hint::spin_loop());
                count.fetch_add(1, Ordering::SeqCst);
                waker.wake();
            }
        });
        for turn in 0..20_000 {
            let mut sent = false;
            let until_woken = SelfWaking::new(poll_fn(|cx| {
                if woken.load(Ordering::SeqCst) > turn {
                    return Poll::Ready(());
                }
                if !std::mem::replace(&mut sent, true) {
                    sender.send(cx.waker().clone()).unwrap();
                }
                Poll::Pending
            }));
            tokio::time::timeout(Duration::from_secs(10), until_woken).await.expect("it was woken");
        }
        drop(sender);
        other.join().unwrap();
    }
}
