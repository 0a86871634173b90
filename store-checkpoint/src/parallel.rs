//! Work on many hosts at once.

use rayon::prelude::*;

/// Calls `f` for every host on up to `threads` threads and returns every failure with its host, in the order of
/// `hosts`.
///
/// One failing host never keeps another one from its turn. With `threads` of 0 or 1, and where the system gives
/// no threads, all calls are made in order on the calling thread: tests that replay a seed depend on that.
///
/// # Panics
/// If `f` panics, after the calls under way have ended.
pub fn for_each_host<'h, H, E, F>(hosts: &'h [H], threads: usize, f: F) -> Vec<(&'h H, E)>
where
    H: Sync,
    E: Send,
    F: Fn(&'h H) -> Result<(), E> + Sync,
{
    let failure = |host: &'h H| f(host).err().map(|e| (host, e));
    map_hosts(hosts, threads, failure).into_iter().flatten().collect()
}

/// As [`for_each_host`], for work that has a result: one for each host, in the order of `hosts`.
///
/// # Panics
/// If `f` panics, after the calls under way have ended.
pub fn map_hosts<'h, H, R, F>(hosts: &'h [H], threads: usize, f: F) -> Vec<R>
where
    H: Sync,
    R: Send,
    F: Fn(&'h H) -> R + Sync,
{
    // A pool of its own rather than the global one: the number of threads is a setting of the store, and work
    // that waits for the disk must not starve what computes.
    let pool = match threads.min(hosts.len()) {
        0 | 1 => None,
        n => rayon::ThreadPoolBuilder::new().num_threads(n).build().ok(),
    };
    match pool {
        Some(pool) => pool.install(|| hosts.par_iter().with_max_len(1).map(&f).collect()),
        None => hosts.iter().map(f).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::thread;

    use super::*;

    #[test]
    fn every_failure_is_returned_with_its_host_and_in_order() {
        let hosts: Vec<u32> = (0..100).collect();
        for threads in [0, 1, 2, 8] {
            let done = Mutex::new(Vec::new());
            let failures = for_each_host(&hosts, threads, |&host| {
                done.lock().unwrap().push(host);
                if host % 7 == 0 { Err(format!("host {host}")) } else { Ok(()) }
            });
            let expected: Vec<_> =
                hosts.iter().filter(|&h| h % 7 == 0).map(|h| (h, format!("host {h}"))).collect();
            assert_eq!(failures, expected, "{threads} threads");
            let mut done = done.into_inner().unwrap();
            done.sort_unstable();
            assert_eq!(done, hosts, "{threads} threads");
        }
    }

    #[test]
    fn one_thread_is_the_calling_one_and_goes_in_order() {
        let hosts: Vec<u32> = (0..50).collect();
        let seen = Mutex::new(Vec::new());
        let here = thread::current().id();
        let failures = for_each_host(&hosts, 1, |&host| {
            assert_eq!(thread::current().id(), here);
            seen.lock().unwrap().push(host);
            Ok::<(), ()>(())
        });
        assert!(failures.is_empty());
        assert_eq!(seen.into_inner().unwrap(), hosts);
    }

    #[test]
    fn results_stand_in_the_order_of_hosts() {
        let hosts: Vec<u32> = (0..100).collect();
        assert_eq!(map_hosts(&hosts, 4, |h| h * 2), (0..100).map(|h| h * 2).collect::<Vec<_>>());
    }
}
