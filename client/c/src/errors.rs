//! Codes of errors, and what they say. The numbers are `truebound.h`'s; `tests/header.rs` compares them.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::ffi::c_int;
use std::io;

use truebound_client::{OpenError, Unavailable};

pub(crate) const OK: c_int = 0;
pub(crate) const ARGUMENT: c_int = 1;
pub(crate) const NO_BOUND: c_int = 20;
pub(crate) const EXPIRED: c_int = 40;
pub(crate) const EPOCH_CHANGED: c_int = 41;
pub(crate) const TIMEOUT: c_int = 42;
const OTHER_TIME_NAMESPACE: c_int = 9;
const OTHER: c_int = 99;

pub(crate) fn of_open(error: &OpenError) -> c_int {
    match error {
        // What has no errno of its own (a boot id that cannot be parsed) is an I/O error all the same.
        OpenError::Io(_, error) => error.raw_os_error().unwrap_or(libc::EIO).saturating_neg(),
        OpenError::Truncated(..) => 2,
        OpenError::WritableByOthers(..) => 3,
        OpenError::ForeignOwner(..) => 4,
        OpenError::NotAPage(_) => 5,
        OpenError::LayoutVersion(..) => 6,
        OpenError::OtherBoot(_) => 7,
        OpenError::OtherClock(_) => 8,
        OpenError::OtherTimeNamespace(_) => OTHER_TIME_NAMESPACE,
        _ => OTHER,
    }
}

#[cold]
pub(crate) fn of_unavailable(error: Unavailable) -> c_int {
    match error {
        Unavailable::NoBound(..) => NO_BOUND,
        Unavailable::Stale => 21,
        Unavailable::BeforeReference => 22,
        Unavailable::Contended => 23,
        Unavailable::Malformed => 24,
        Unavailable::Slept => 25,
        Unavailable::VmMoved => 26,
        Unavailable::VmClockHidden => 27,
        Unavailable::ClocksourceChanged => 28,
        Unavailable::Replaced => 29,
        Unavailable::OtherTimeNamespace => OTHER_TIME_NAMESPACE,
        _ => OTHER,
    }
}

/// What an error means, and what to do next.
pub(crate) fn text(error: c_int) -> Cow<'static, str> {
    let text = match error {
        OK => "no error",
        ARGUMENT => "an argument is NULL: pass a reader that was opened, and a place for the result",
        2 => "the page is no regular file, or too short: is something else at its path?",
        3 => "group or others may write to the page, so anybody could forge it: its mode must be 0644",
        4 => "the page is owned by neither root nor this user: read the agent's own page",
        5 => "the file is not a truebound page: is its path right?",
        6 => "the page has another layout: use the agent and the library of one version",
        7 => "the page was written before this host was booted: start the agent",
        8 => "the page ages by a virtual clock, which only tests read",
        OTHER_TIME_NAMESPACE => {
            "this process runs in another time namespace than the agent, so its raw clock is shifted; run it in the agent's"
        }
        NO_BOUND => "the agent has no bound now: status and reason say why",
        21 => "the bound has expired: is the agent running?",
        22 => "the raw clock is before the bound's reference instant: is the page this host's?",
        23 => "publications kept overtaking the read: is something else writing to the page?",
        24 => "the page says something that no agent says: is something else writing to it?",
        25 => "the host slept since the page was published; the agent measures anew: try again",
        26 => "the VM was paused, moved or restored; the agent measures anew: try again",
        27 => "the agent watches the hypervisor's page and this process cannot open it: let it read /dev/vmclock0",
        28 => "the kernel changed its clocksource; the agent measures anew: try again",
        29 => "the page's file was removed or replaced, so nobody writes it any more: open its path again",
        EXPIRED => "the lease may have expired: discard the result of the work, and ask for a new lease",
        EPOCH_CHANGED => "the agent withdrew the bounds that the caller relied on: ask for a new lease",
        TIMEOUT => "the instant has not certainly passed yet: wait longer",
        ..0 => return io_text(error).into(),
        _ => "an error that this version of the library does not know",
    };
    text.into()
}

fn io_text(error: c_int) -> String {
    format!(
        "the page cannot be opened: {}; is the agent running?",
        io::Error::from_raw_os_error(error.saturating_neg())
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use truebound_client::{Reason, Status};

    /// The header's number of `TRUEBOUND_ERR_<name>`.
    fn number(name: &str) -> c_int {
        let line = include_str!("../truebound.h").lines().find_map(|line| {
            line.strip_prefix("#define TRUEBOUND_ERR_")?.strip_prefix(name)?.strip_prefix(' ')?.split(' ').next()
        });
        line.expect("the header has it").parse().expect("a number")
    }

    #[test]
    fn readings_errors_are_the_headers() {
        for (error, name) in [
            (Unavailable::NoBound(Status::Void, Reason::Unknown), "NO_BOUND"),
            (Unavailable::Stale, "STALE"),
            (Unavailable::BeforeReference, "BEFORE_REFERENCE"),
            (Unavailable::Contended, "CONTENDED"),
            (Unavailable::Malformed, "MALFORMED"),
            (Unavailable::Slept, "SLEPT"),
            (Unavailable::VmMoved, "VM_MOVED"),
            (Unavailable::VmClockHidden, "VMCLOCK_HIDDEN"),
            (Unavailable::ClocksourceChanged, "CLOCKSOURCE_CHANGED"),
            (Unavailable::OtherTimeNamespace, "OTHER_TIME_NAMESPACE"),
            (Unavailable::Replaced, "REPLACED"),
        ] {
            assert_eq!(of_unavailable(error), number(name), "{name}");
        }
        let codes = [ARGUMENT, EXPIRED, EPOCH_CHANGED, TIMEOUT, OTHER];
        assert_eq!(codes, ["ARGUMENT", "EXPIRED", "EPOCH_CHANGED", "TIMEOUT", "OTHER"].map(number));
    }

    #[test]
    fn openings_errors_are_the_headers() {
        let at = PathBuf::new;
        for (error, name) in [
            (OpenError::Truncated(at(), 0), "TRUNCATED"),
            (OpenError::WritableByOthers(at(), 0), "WRITABLE_BY_OTHERS"),
            (OpenError::ForeignOwner(at(), 0), "FOREIGN_OWNER"),
            (OpenError::NotAPage(at()), "NOT_A_PAGE"),
            (OpenError::LayoutVersion(at(), 0), "LAYOUT_VERSION"),
            (OpenError::OtherBoot(at()), "OTHER_BOOT"),
            (OpenError::OtherClock(at()), "OTHER_CLOCK"),
            (OpenError::OtherTimeNamespace(at()), "OTHER_TIME_NAMESPACE"),
        ] {
            assert_eq!(of_open(&error), number(name), "{name}");
        }
        assert_eq!(of_open(&OpenError::Io(at(), io::Error::from_raw_os_error(libc::ENOENT))), -libc::ENOENT);
        assert_eq!(of_open(&OpenError::Io(at(), io::ErrorKind::InvalidData.into())), -libc::EIO);
    }
}
