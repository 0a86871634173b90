//! [`StallGuard`]: a connection whose client must take what it is sent.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::budget::Budget;
use super::unread::Lingers;

/// How long a connection is read that is closed while its client may still be sending.
const LINGER: Duration = Duration::from_millis(500);

/// Ends a connection on which nothing could be written for some time.
///
/// Without it a client that asks and never reads keeps its answer in our memory for as long as it likes; hyper has no
/// timer for that.
///
/// That nothing could be written does not mean that nothing is read: the kernel has megabytes on their way, on both
/// sides, and lets us write only when a good part of them is gone. A reader at 2 kB/s takes minutes for that. So a
/// client that holds up nobody is given minutes; only when memory gets short it is seconds.
pub(super) struct StallGuard<S> {
    stream: S,
    limits: StallLimits,
    budget: Arc<Budget>,
    lingers: Lingers,
    /// When the write that waits began to wait.
    since: Option<Instant>,
    /// Runs while a write waits, or while the end lingers.
    timer: Option<Pin<Box<Sleep>>>,
}

/// How long a write may wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct StallLimits {
    /// When more than half of the memory for bodies and answers is held.
    pub(super) short: Duration,
    /// Otherwise.
    pub(super) long: Duration,
}

impl<S> StallGuard<S> {
    /// Lets each write wait within `limits`, and reads on for a moment at the end if `lingers` says so.
    pub(super) fn new(stream: S, limits: StallLimits, budget: Arc<Budget>, lingers: Lingers) -> Self {
        Self { stream, limits, budget, lingers, since: None, timer: None }
    }

    fn watch<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            (self.since, self.timer) = (None, None);
            return written;
        }
        let short = self.limits.short;
        let since = *self.since.get_or_insert_with(Instant::now);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(short)));
        loop {
            if timer.deadline() > Instant::now() {
                ready!(timer.as_mut().poll(cx));
            }
            if self.budget.is_short() || since.elapsed() >= self.limits.long {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            timer.as_mut().reset(Instant::now() + short);
        }
    }
}

impl<S: AsyncRead + Unpin> StallGuard<S> {
    /// Reads and forgets what still comes, until the client has ended or the time is over.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut room = [0; 8 << 10];
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        while timer.as_mut().poll(cx).is_pending() {
            let mut read = ReadBuf::new(&mut room);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read)) {
                Ok(()) if !read.filled().is_empty() => {}
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StallGuard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for StallGuard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        if self.lingers.is_set() {
            ready!(self.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    const LIMITS: StallLimits =
        StallLimits { short: Duration::from_millis(50), long: Duration::from_millis(600) };

    /// How long a write waits for a reader that reads nothing.
    async fn waited(budget: &Arc<Budget>) -> Duration {
        let (ours, _theirs) = duplex(16);
        let mut guarded = StallGuard::new(ours, LIMITS, Arc::clone(budget), Lingers::default());
        let begun = Instant::now();
        let error = guarded.write_all(&[0; 17]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        begun.elapsed()
    }

    #[tokio::test]
    async fn a_reader_that_pauses_is_cut_soon_only_where_memory_is_short() {
        let budget = Arc::new(Budget::new(100));
        let patient = waited(&budget).await;
        assert!(patient >= LIMITS.long, "{patient:?}");
        let mut held = budget.part();
        assert!(held.grow(51));
        let short = waited(&budget).await;
        assert!(short >= LIMITS.short && short < LIMITS.long, "{short:?}");
    }

    #[tokio::test]
    async fn a_reader_that_takes_something_within_the_time_is_not_cut() {
        let (ours, mut theirs) = duplex(16);
        let budget = Arc::new(Budget::new(100));
        let limits = StallLimits { short: Duration::from_millis(20), long: Duration::from_millis(300) };
        let mut guarded = StallGuard::new(ours, limits, budget, Lingers::default());
        let reading = tokio::spawn(async move {
            let mut read = 0;
            let mut room = [0; 16];
            while read < 80 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                read += theirs.read(&mut room).await.unwrap();
            }
            read
        });
        guarded.write_all(&[0; 80]).await.unwrap();
        assert_eq!(reading.await.unwrap(), 80);
    }
}
