//! The CPU's counter, read in order: not before what comes before it in the program, nor after what follows.

/// x86: the time stamp counter. LFENCE waits for all earlier instructions, and holds back all later ones.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn read() -> Option<u64> {
    let (low, high): (u32, u32);
    // SAFETY: three instructions that every x86-64 CPU has; they write EAX and EDX, which are outputs, touch neither
    // memory nor stack, and leave the flags alone. (A process that forbade itself RDTSC by prctl(2) gets a signal.)
    unsafe {
        core::arch::asm!(
            "lfence", "rdtsc", "lfence",
            out("eax") low, out("edx") high,
            options(nostack, preserves_flags),
        );
    }
    Some(u64::from(high) << 32 | u64::from(low))
}

/// arm64: the virtual counter, which Linux lets programs read. ISB orders it against the instructions around it.
#[cfg(target_arch = "aarch64")]
#[inline]
pub(crate) fn read() -> Option<u64> {
    let ticks: u64;
    // SAFETY: reads a register that Linux opens to programs (CNTKCTL_EL1.EL0VCTEN) into an output; touches neither
    // memory nor stack nor flags.
    unsafe {
        core::arch::asm!(
            "isb", "mrs {ticks}, cntvct_el0", "isb",
            ticks = out(reg) ticks,
            options(nostack, preserves_flags),
        );
    }
    Some(ticks)
}

/// No counter is known here.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) fn read() -> Option<u64> {
    None
}
