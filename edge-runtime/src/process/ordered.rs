//! Work on several threads whose results come in order.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;

/// Does `work(0)` to `work(count - 1)` on `jobs` threads, and gives each result to `take`, in order, as soon as all
/// before it are done. What `take` refuses ends it; work that has begun is finished.
pub fn in_order<T: Send, E>(
    count: usize,
    jobs: usize,
    work: impl Fn(usize) -> T + Sync,
    mut take: impl FnMut(T) -> Result<(), E>,
) -> Result<(), E> {
    if jobs < 2 || count < 2 {
        return (0..count).try_for_each(|i| take(work(i)));
    }
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let (send, results) = sync_channel(jobs);
        for _ in 0..jobs.min(count) {
            let send = send.clone();
            let next = &next;
            let work = &work;
            scope.spawn(move || {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    if i >= count || send.send((i, work(i))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        let mut waiting = BTreeMap::new();
        let mut due = 0;
        for (i, result) in results {
            waiting.insert(i, result);
            while let Some(result) = waiting.remove(&due) {
                take(result)?;
                due += 1;
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn results_come_in_order_however_long_each_takes() {
        for jobs in [1, 2, 3, 64] {
            let mut seen = Vec::new();
            let slow = |i: usize| {
                std::thread::sleep(Duration::from_millis((i * 7 % 5) as u64));
                i
            };
            let taken = |i| -> Result<(), ()> {
                seen.push(i);
                Ok(())
            };
            in_order(20, jobs, slow, taken).unwrap();
            assert_eq!(seen, (0..20).collect::<Vec<_>>(), "{jobs} jobs");
        }
    }

    #[test]
    fn a_refusal_ends_the_work() {
        let done = AtomicUsize::new(0);
        let work = |i: usize| {
            done.fetch_add(1, Ordering::Relaxed);
            i
        };
        assert_eq!(in_order(10_000, 2, work, |i| if i == 3 { Err("full") } else { Ok(()) }), Err("full"));
        assert!(done.into_inner() < 100);
        assert_eq!(in_order(0, 4, |i| i, |_| Err(())), Ok(()));
    }
}
