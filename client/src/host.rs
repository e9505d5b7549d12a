//! What raw time rests on besides the page, and what a strict read compares: the kernel's clocksource, this process's
//! time namespace, and the hypervisor's page, if there is one.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::sys::Mapping;

/// Where the kernel names its clocksource.
pub const CLOCKSOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
/// Whose inode names this process's time namespace.
const TIME_NAMESPACE: &str = "/proc/self/ns/time";
/// The longest path of a hypervisor's page that fits on ours, bytes.
pub const VM_PATH_BYTES: usize = 64;

/// What the agent's host is, besides its boot: readers compare it with what they see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostIdentity {
    /// Inode of the agent's time namespace; 0: the kernel has none.
    pub time_namespace: u64,
    /// The hypervisor's page that the agent watches (/dev/vmclock0), at most [`VM_PATH_BYTES`] bytes.
    pub vmclock: Option<PathBuf>,
}

impl HostIdentity {
    /// This process's, watching `vmclock`.
    #[must_use]
    pub fn here(vmclock: Option<PathBuf>) -> Self {
        HostIdentity { time_namespace: time_namespace(), vmclock }
    }
}

/// Inode of this process's time namespace; 0 if the kernel has none. Clocks of two namespaces differ by a constant.
#[must_use]
pub fn time_namespace() -> u64 {
    std::fs::metadata(TIME_NAMESPACE).map_or(0, |facts| facts.ino())
}

/// The clocksource's name in sixteen bytes, zero padded. Of a name too long the first and the last eight bytes:
/// `hyperv_clocksource_tsc_page` and `hyperv_clocksource_msr` differ at the end.
#[must_use]
pub fn clocksource_name(text: &[u8]) -> [u8; 16] {
    let name = text.trim_ascii();
    let mut short = [0; 16];
    if let Some(pad) = short.len().checked_sub(name.len()) {
        short[..16 - pad].copy_from_slice(name);
    } else {
        short[..8].copy_from_slice(&name[..8]);
        short[8..].copy_from_slice(&name[name.len() - 8..]);
    }
    short
}

/// The kernel's clocksource, read again and again through one descriptor.
#[derive(Debug)]
pub struct ClocksourceFile(Option<File>);

impl ClocksourceFile {
    /// Opens it. Where there is none, its name is empty for ever.
    #[must_use]
    pub fn open() -> Self {
        ClocksourceFile(File::open(CLOCKSOURCE).ok())
    }

    /// As [`clocksource_name`]; empty if it cannot be read. One system call.
    #[must_use]
    pub fn name(&self) -> [u8; 16] {
        let mut bytes = [0; 64];
        let read = self.0.as_ref().and_then(|file| file.read_at(&mut bytes, 0).ok()).unwrap_or(0);
        clocksource_name(&bytes[..read])
    }
}

/// What changes when the hypervisor disrupts this VM's counter, or restores or clones the VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VmMark {
    /// `disruption_marker` of the hypervisor's page.
    pub disruption_marker: u64,
    /// `vm_generation_counter`, or 0 if the page has none.
    pub generation: u64,
}

/// The hypervisor's page (struct vmclock_abi of linux/vmclock-abi.h), mapped.
pub struct VmPage {
    mapping: Mapping,
}

/// Word numbers of struct vmclock_abi.
mod vm_word {
    pub(super) const MAGIC_SIZE: usize = 0;
    pub(super) const VERSION: usize = 1;
    pub(super) const DISRUPTION_MARKER: usize = 2;
    pub(super) const FLAGS: usize = 3;
    pub(super) const GENERATION: usize = 13;
}

const VM_MAGIC: &[u8; 4] = b"VCLK";
const VM_VERSION: u16 = 1;
/// VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT.
const HAS_GENERATION: u64 = 1 << 8;
/// VMCLOCK_FLAG_DISRUPTION_SOON and _IMMINENT.
const SOON: u64 = 1 << 1;
const IMMINENT: u64 = 1 << 2;

/// A disruption that the hypervisor foretells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Foretold {
    /// None.
    #[default]
    Nothing,
    /// Within a day or so.
    Soon,
    /// Within the hour: no new leases.
    Imminent,
}

impl Foretold {
    /// The word used in JSON and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Foretold::Nothing => "nothing",
            Foretold::Soon => "soon",
            Foretold::Imminent => "imminent",
        }
    }
}

impl VmPage {
    /// Maps the page at `path`.
    ///
    /// # Errors
    /// What open(2) and mmap(2) say; `InvalidData` if it is no such page.
    pub fn open(path: &Path) -> io::Result<VmPage> {
        let file = crate::sys::open_at_once(path)?;
        // A device has no length; a file that is too short would be a bus error.
        let facts = file.metadata()?;
        if facts.is_file() && facts.len() < crate::page::PAGE_BYTES as u64 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let page = VmPage { mapping: Mapping::new(&file, false)? };
        let (head, version) = (page.word(vm_word::MAGIC_SIZE).to_le_bytes(), page.word(vm_word::VERSION).to_le_bytes());
        let is_page = head.starts_with(VM_MAGIC) && u16::from_le_bytes([version[0], version[1]]) == VM_VERSION;
        if is_page { Ok(page) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    /// The mark now: two or three loads.
    #[inline]
    #[must_use]
    pub fn mark(&self) -> VmMark {
        let has_generation = self.word(vm_word::FLAGS) & HAS_GENERATION != 0;
        VmMark {
            disruption_marker: self.word(vm_word::DISRUPTION_MARKER),
            generation: if has_generation { self.word(vm_word::GENERATION) } else { 0 },
        }
    }

    /// What the hypervisor foretells.
    #[must_use]
    pub fn foretold(&self) -> Foretold {
        let flags = self.word(vm_word::FLAGS);
        if flags & IMMINENT != 0 {
            Foretold::Imminent
        } else if flags & SOON != 0 {
            Foretold::Soon
        } else {
            Foretold::Nothing
        }
    }

    #[inline]
    fn word(&self, index: usize) -> u64 {
        let word: &AtomicU64 = &self.mapping.words()[index];
        u64::from_le(word.load(Ordering::Acquire))
    }
}

/// A path as words of the header, zero padded; `None` if it is too long.
#[cfg(any(feature = "publish", test))]
pub(crate) fn path_words(path: &Path) -> Option<[u64; VM_PATH_BYTES / 8]> {
    use std::os::unix::ffi::OsStrExt;
    let bytes = path.as_os_str().as_bytes();
    let mut padded = [0; VM_PATH_BYTES];
    padded.get_mut(..bytes.len())?.copy_from_slice(bytes);
    let mut words = [0; VM_PATH_BYTES / 8];
    crate::page::copy_in(&padded, &mut words);
    Some(words)
}

/// The path in words of the header; `None` if there is none.
pub(crate) fn path_from(words: &[u64; VM_PATH_BYTES / 8]) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let mut bytes = [0; VM_PATH_BYTES];
    crate::page::copy_out(words, &mut bytes);
    let length = bytes.iter().position(|&byte| byte == 0).unwrap_or(VM_PATH_BYTES);
    (length > 0).then(|| PathBuf::from(std::ffi::OsStr::from_bytes(&bytes[..length])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_keep_both_ends() {
        assert_eq!(clocksource_name(b"tsc\n"), *b"tsc\0\0\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(clocksource_name(b""), [0; 16]);
        assert_eq!(clocksource_name(b"arch_sys_counter"), *b"arch_sys_counter");
        assert_eq!(&clocksource_name(b"hyperv_clocksource_tsc_page\n"), b"hyperv_ctsc_page");
        assert_ne!(clocksource_name(b"hyperv_clocksource_msr"), clocksource_name(b"hyperv_clocksource_tsc_page"));
    }

    #[test]
    fn paths_round_trip_up_to_their_limit() {
        for path in ["/dev/vmclock0", &"x".repeat(VM_PATH_BYTES)] {
            let words = path_words(Path::new(path)).expect("it fits");
            assert_eq!(path_from(&words).as_deref(), Some(Path::new(path)));
        }
        assert_eq!(path_words(Path::new(&"x".repeat(VM_PATH_BYTES + 1))), None);
        assert_eq!(path_from(&[0; VM_PATH_BYTES / 8]), None);
    }
}
