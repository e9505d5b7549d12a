//! Many jobs on all cores, their results in order: what is printed does not depend on who finished first. A job that
//! panics has failed, and the others go on.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

thread_local! {
    static JOB: Cell<Option<u64>> = const { Cell::new(None) };
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs `job` for 0, 1, … `count` − 1 and hands each result, or the words of its panic, to `take` in this order.
/// `describe` says how to see a job's panic again, for builds in which a panic cannot be survived.
pub fn in_order<T: Send>(
    count: u64,
    describe: impl Fn(u64) -> String + Send + Sync + 'static,
    job: impl Fn(u64) -> T + Sync,
    mut take: impl FnMut(u64, Result<T, String>),
) {
    listen_for_panics(describe);
    let workers = std::thread::available_parallelism().map_or(1, NonZero::get) as u64;
    let next = AtomicU64::new(0);
    let (send, receive) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..workers.min(count) {
            let (send, next, job) = (send.clone(), &next, &job);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count || send.send((number, caught(number, job))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        let (mut waiting, mut due) = (BTreeMap::new(), 0);
        for (number, result) in receive {
            waiting.insert(number, result);
            while let Some(result) = waiting.remove(&due) {
                take(due, result);
                due += 1;
            }
        }
    });
    let _ = std::panic::take_hook();
}

fn caught<T>(number: u64, job: &impl Fn(u64) -> T) -> Result<T, String> {
    JOB.set(Some(number));
    let result = catch_unwind(AssertUnwindSafe(|| job(number)));
    JOB.set(None);
    result.map_err(|_| PANIC.take())
}

/// Keeps the words of a panic for [`caught`]; where panics abort, there is nothing after this, so it says all.
fn listen_for_panics(describe: impl Fn(u64) -> String + Send + Sync + 'static) {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| match JOB.get() {
        None => usual(info),
        Some(number) if cfg!(panic = "abort") => {
            eprintln!("{info}\nagain: {}", describe(number));
            std::process::exit(1);
        }
        Some(_) => PANIC.set(info.to_string().replace('\n', " ")),
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_a_panic_is_one_of_them() {
        let mut seen = Vec::new();
        let job = |number: u64| {
            // Later jobs are done sooner.
            let work = (0..(40 - number) * 1000).fold(number, |sum, x| sum ^ x.rotate_left(7));
            assert!(number != 17, "seventeen gives {work}");
            number * number
        };
        in_order(40, |number| number.to_string(), job, |number, result| seen.push((number, result)));
        for (place, (number, result)) in seen.iter().enumerate() {
            assert_eq!(*number, place as u64);
            match result {
                Ok(square) => assert_eq!(*square, number * number),
                Err(words) => assert!(*number == 17 && words.contains("seventeen gives"), "{number}: {words}"),
            }
        }
        assert_eq!((seen.len(), seen.iter().filter(|(_, result)| result.is_err()).count()), (40, 1));
        in_order(0, |_| String::new(), |number| number, |_, _| unreachable!("no job"));
    }
}
