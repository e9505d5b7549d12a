//! The answers whose transmit stamp a client may ask for, found by their names.
//!
//! A client names an answer by its receive stamp, the socket by its token. The newest answers are kept in a ring, and
//! those whose names hash alike are chained through it from the newest to the oldest, so both are found at once however
//! many clients ask. Only answers to clients that show interest in stamps are kept; but a name is given to one answer
//! only, kept or not, or a client could be told when another one's answer left.

use core::net::IpAddr;

use crate::io::TxToken;
use crate::time::RawSpan;
use crate::wire::ntp::NtpTimestamp;

/// Answers kept: those of a second to 4096 clients that ask every second, in a third of a MiB.
pub(super) const KEPT: usize = 1 << KEPT_BITS;
const KEPT_BITS: u32 = 12;
/// Names remembered of all answers: they are given in the order of time, but for neighbours in a batch.
const RECENT: usize = 64;
/// Tokens of the responder have this bit; those of associations do not.
pub(crate) const TOKEN_BIT: u64 = 1 << 63;
/// Tokens of answers that are not kept have this one, too.
const UNKEPT_BIT: u64 = 1 << 62;

/// An answer that was given.
#[derive(Clone, Copy, Debug)]
struct Given {
    number: u64,
    client: IpAddr,
    name: NtpTimestamp,
    left: Option<RawSpan>,
    /// One more than the number of the answer before it whose name hashes alike; 0: there is none.
    chained: u64,
}

/// See the module's page.
#[derive(Clone, Debug)]
pub(super) struct Answers {
    /// Answer n lies at n modulo [`KEPT`].
    ring: Vec<Given>,
    /// One more than the number of the newest answer of each hash; 0: there is none.
    newest: Vec<u64>,
    next: u64,
    next_unkept: u64,
    recent: [NtpTimestamp; RECENT],
    recent_at: usize,
    /// The latest name.
    latest: NtpTimestamp,
}

impl Answers {
    pub(super) fn new() -> Self {
        Answers {
            ring: Vec::new(),
            newest: Vec::new(),
            next: 0,
            next_unkept: 0,
            recent: [NtpTimestamp::ZERO; RECENT],
            recent_at: 0,
            latest: NtpTimestamp::ZERO,
        }
    }

    /// The first receive stamp from `stamp` on that names no answer yet.
    pub(super) fn name(&mut self, mut stamp: NtpTimestamp) -> NtpTimestamp {
        let is_later = |stamp: NtpTimestamp, latest: NtpTimestamp| stamp.0.wrapping_sub(latest.0).cast_signed() > 0;
        while stamp == NtpTimestamp::ZERO || (!is_later(stamp, self.latest) && self.is_taken(stamp)) {
            stamp = NtpTimestamp(stamp.0.wrapping_add(1));
        }
        if is_later(stamp, self.latest) || self.latest == NtpTimestamp::ZERO {
            self.latest = stamp;
        }
        self.recent[self.recent_at] = stamp;
        self.recent_at = (self.recent_at + 1) % RECENT;
        stamp
    }

    fn is_taken(&self, name: NtpTimestamp) -> bool {
        self.recent.contains(&name) || self.named(name).any(|given| given.name == name)
    }

    /// Keeps an answer; gives its token.
    pub(super) fn keep(&mut self, client: IpAddr, name: NtpTimestamp) -> TxToken {
        let number = self.next;
        self.next += 1;
        if self.newest.is_empty() {
            self.newest = vec![0; KEPT];
        }
        let chained = std::mem::replace(&mut self.newest[hash(name)], number + 1);
        let given = Given { number, client, name, left: None, chained };
        match self.ring.get_mut(place(number)) {
            Some(oldest) => *oldest = given,
            None => self.ring.push(given),
        }
        TxToken(TOKEN_BIT | number)
    }

    /// A token for an answer that is not kept.
    pub(super) fn unkept(&mut self) -> TxToken {
        self.next_unkept += 1;
        TxToken(TOKEN_BIT | UNKEPT_BIT | self.next_unkept)
    }

    /// The answer with this token left then.
    pub(super) fn left(&mut self, token: TxToken, at: RawSpan) {
        let number = token.0 & !TOKEN_BIT;
        if let Some(given) = self.ring.get_mut(place(number)).filter(|given| given.number == number) {
            given.left = Some(at);
        }
    }

    /// When the answer of this name left that `client` got.
    pub(super) fn when_left(&self, client: IpAddr, name: NtpTimestamp) -> Option<RawSpan> {
        self.named(name).find(|given| given.name == name && given.client == client)?.left
    }

    /// The answers whose names hash as `name`, newest first.
    fn named(&self, name: NtpTimestamp) -> impl Iterator<Item = &Given> {
        let mut follows = self.newest.get(hash(name)).copied().unwrap_or(0);
        std::iter::from_fn(move || {
            let number = follows.checked_sub(1)?;
            // One that was overwritten ends the chain: all behind it are older still.
            let given = self.ring.get(place(number)).filter(|given| given.number == number)?;
            follows = given.chained;
            Some(given)
        })
    }

    /// Forgets when answers left. Numbers go on, so no late stamp finds another answer.
    pub(super) fn forget(&mut self) {
        self.ring.iter_mut().for_each(|given| given.left = None);
        self.newest.fill(0);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "reduced modulo the size")]
fn place(number: u64) -> usize {
    number as usize % KEPT
}

/// Multiplicative hashing: names differ in their low bits. They are this host's time, so nobody else chooses them.
fn hash(name: NtpTimestamp) -> usize {
    (name.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - KEPT_BITS)) as usize
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use crate::time::RawTime;

    use super::*;

    fn client(n: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, n).into()
    }

    fn at(ns: i64) -> RawSpan {
        RawSpan { early: RawTime::from_ns(ns), late: RawTime::from_ns(ns) }
    }

    #[test]
    fn an_answer_is_found_by_its_client_and_name_only() {
        let mut answers = Answers::new();
        let name = answers.name(NtpTimestamp(700));
        let token = answers.keep(client(1), name);
        assert_eq!(answers.when_left(client(1), name), None, "no stamp came yet");
        answers.left(token, at(5));
        assert_eq!(answers.when_left(client(1), name), Some(at(5)));
        assert_eq!(answers.when_left(client(2), name), None);
        assert_eq!(answers.when_left(client(1), NtpTimestamp(701)), None);
        answers.forget();
        assert_eq!(answers.when_left(client(1), name), None);
    }

    #[test]
    fn a_name_is_given_once_whoever_keeps_it() {
        let mut answers = Answers::new();
        assert_eq!(answers.name(NtpTimestamp(5)), NtpTimestamp(5));
        assert_eq!(answers.name(NtpTimestamp(5)), NtpTimestamp(6));
        // Out of order: what is free is used, what is taken is not.
        assert_eq!(answers.name(NtpTimestamp(4)), NtpTimestamp(4));
        assert_eq!(answers.name(NtpTimestamp(4)), NtpTimestamp(7));
        assert_eq!(answers.name(NtpTimestamp::ZERO), NtpTimestamp(1), "zero is no name");
        // A kept one is known after the recent ones were forgotten.
        let kept = answers.name(NtpTimestamp(100));
        answers.keep(client(1), kept);
        for n in 0..2 * RECENT as u64 {
            assert_eq!(answers.name(NtpTimestamp(1_000 + n)), NtpTimestamp(1_000 + n));
        }
        assert_eq!(answers.name(NtpTimestamp(100)), NtpTimestamp(101));
    }

    #[test]
    fn names_go_on_in_the_next_era() {
        let mut answers = Answers::new();
        let last = NtpTimestamp(u64::MAX);
        assert_eq!(answers.name(last), last);
        assert_eq!(answers.name(last), NtpTimestamp(1));
        assert_eq!(answers.name(NtpTimestamp(3)), NtpTimestamp(3));
        assert_eq!(answers.name(NtpTimestamp(1)), NtpTimestamp(2));
    }

    #[test]
    fn the_newest_answers_are_kept_and_no_more() {
        let mut answers = Answers::new();
        let mut tokens = Vec::new();
        for n in 1..=3 * KEPT as u64 {
            let name = answers.name(NtpTimestamp(n * 1_000));
            tokens.push((name, answers.keep(client(1), name)));
        }
        for &(_, token) in &tokens {
            answers.left(token, at(1));
        }
        let known = tokens.iter().filter(|(name, _)| answers.when_left(client(1), *name).is_some()).count();
        assert_eq!((known, answers.ring.len(), answers.newest.len()), (KEPT, KEPT, KEPT));
        assert!(answers.when_left(client(1), tokens[2 * KEPT].0).is_some(), "the oldest that is kept");
        assert!(answers.when_left(client(1), tokens[2 * KEPT - 1].0).is_none(), "the newest that is not");
    }

    #[test]
    fn the_token_of_an_answer_that_is_not_kept_stamps_nothing() {
        let mut answers = Answers::new();
        let name = answers.name(NtpTimestamp(9));
        let kept = answers.keep(client(1), name);
        let unkept = answers.unkept();
        assert_ne!(kept, unkept);
        answers.left(unkept, at(5));
        assert_eq!(answers.when_left(client(1), name), None);
    }
}
