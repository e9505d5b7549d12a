//! PAGE.md's section on ageing a bound, written again from its words: every sum in 128 bits, cut to 64 where the document
//! says that arithmetic saturates. Knows bytes and their places, and nothing of the client's code but its results.

use truebound_client::{Interval, Reason, Span, Status, Unavailable};

pub(crate) const WORDS: usize = 512;

/// A page's words, as a reader finds them.
pub(crate) type Words = [u64; WORDS];

const GENERATION: usize = 2;
const SLOT_0: usize = 64;
const SLOT_WORDS: usize = 64;
const UNKNOWN_OFFSETS: std::ops::Range<i128> = i32::MIN as i128..i32::MIN as i128 + 1_000;

/// Where the newest publication begins.
pub(crate) fn newest_slot(words: &Words) -> usize {
    SLOT_0 + if words[GENERATION].is_multiple_of(2) { 0 } else { SLOT_WORDS }
}

/// What a reader of these words gets at raw time `raw_ns`.
pub(crate) fn evaluate(words: &Words, raw_ns: i64) -> Result<Interval, Unavailable> {
    if words[GENERATION] == 0 {
        return Err(Unavailable::NoBound(Status::Starting, Reason::NoAnswerYet));
    }
    let slot = &words[newest_slot(words)..];
    let first = slot[0].to_ne_bytes();
    let reason = Reason::from_number(u16::from_ne_bytes([first[2], first[3]]));
    let status = match first[0] {
        1 => Status::Locked,
        2 => Status::Holdover,
        number => {
            let known = [Status::Starting, Status::FreeRunning, Status::Disrupted, Status::Void];
            let status = known.into_iter().find(|&status| status as u8 == number).ok_or(Unavailable::Malformed)?;
            return Err(Unavailable::NoBound(status, reason));
        }
    };
    let tai = tai(slot, raw_ns.into())?;
    let (least, most, shown) = offsets(slot, tai);
    let earliest_ns = cut(tai.0 - most * 1_000_000_000);
    let latest_ns = cut(tai.1 - least * 1_000_000_000);
    Ok(Interval {
        earliest_ns: narrow(earliest_ns),
        latest_ns: narrow(latest_ns),
        tai: Span::new(narrow(tai.0), narrow(tai.1)),
        epoch: slot[1],
        status,
        tai_offset_s: i32::try_from(shown).expect("an i32 of the page"),
    })
}

fn tai(slot: &[u64], raw: i128) -> Result<(i128, i128), Unavailable> {
    let field = |byte: usize| i128::from(slot[byte / 8].cast_signed());
    let (t_ref, void_after, theta_lo, theta_hi) = (field(16), field(24), field(32), field(40));
    if raw >= void_after {
        return Err(Unavailable::Stale);
    }
    if raw - t_ref < -1_000_000 {
        return Err(Unavailable::BeforeReference);
    }
    let h = cut((raw - t_ref).max(0));
    let w = cut(up(h * i128::from(slot[80 / 8])));
    let rate_hi = cut(cut(field(56) + w).min(field(72)) + field(88));
    let rate_lo = cut(cut(field(48) - w).max(field(64)) - field(88));
    let hi = cut(theta_hi + cut(up(h * rate_hi)));
    let lo = cut(theta_lo + cut(down(h * rate_lo)));
    let (earliest, latest) = (cut(raw + lo), cut(cut(raw + 1) + hi));
    if theta_lo > theta_hi || earliest > latest { Err(Unavailable::Malformed) } else { Ok((earliest, latest)) }
}

/// Least and most TAI − UTC, and the one that is shown.
fn offsets(slot: &[u64], (earliest, latest): (i128, i128)) -> (i128, i128, i128) {
    let [a, b, c, d, e, f, g, h] = slot[96 / 8].to_ne_bytes();
    let (now, after) = (i32::from_ne_bytes([a, b, c, d]).into(), i32::from_ne_bytes([e, f, g, h]).into());
    let change_at = i128::from(slot[104 / 8].cast_signed());
    if latest < change_at {
        (now, now, now)
    } else if UNKNOWN_OFFSETS.contains(&after) {
        let (least, most) = (i128::from(i32::MIN), i128::from(i32::MAX));
        let doubt = after - UNKNOWN_OFFSETS.start + 1;
        ((now - doubt).max(least), (now + doubt).min(most), now)
    } else if earliest >= change_at {
        (after, after, after)
    } else {
        (now.min(after), now.max(after), now)
    }
}

/// ⌈n / 2⁴⁰⌉.
fn up(n: i128) -> i128 {
    let quotient = n.div_euclid(1 << 40);
    quotient + i128::from(n.rem_euclid(1 << 40) != 0)
}

/// ⌊n / 2⁴⁰⌋.
fn down(n: i128) -> i128 {
    n.div_euclid(1 << 40)
}

/// The nearest number of 64 bits.
fn cut(n: i128) -> i128 {
    n.clamp(i64::MIN.into(), i64::MAX.into())
}

fn narrow(n: i128) -> i64 {
    i64::try_from(n).expect("cut before")
}
