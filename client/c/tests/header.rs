//! `truebound.h` against this library: sizes, offsets and numbers are the same on both sides, and the header compiles
//! as C99 and C++ without a warning.

use std::ffi::CStr;
use std::fmt::Write as _;
use std::mem::offset_of;
use std::path::PathBuf;
use std::process::Command;

use truebound::{CElapsed, CInterval, CPublication, CTick};
use truebound_client::{Reason, Status};

const HEADER: &str = include_str!("../truebound.h");

/// A directory that goes away.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("truebound-header-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("the temporary directory is writable");
        Scratch(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Compiles `source` with every warning refused and runs it; `None` without that compiler.
fn output_of(name: &str, compiler: &[&str], source: &str) -> Option<String> {
    if Command::new(compiler[0]).arg("--version").output().is_err() {
        println!("skipped: {name}: no {} here", compiler[0]);
        return None;
    }
    let dir = Scratch::new(name);
    let (file, program) = (dir.0.join("source"), dir.0.join("program"));
    std::fs::write(&file, source).expect("writable");
    let built = Command::new(compiler[0])
        .args(&compiler[1..])
        .args(["-Wall", "-Wextra", "-Werror", "-pedantic", "-I", env!("CARGO_MANIFEST_DIR")])
        .arg(&file)
        .arg("-o")
        .arg(&program)
        .output()
        .expect("a compiler");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let output = Command::new(program).output().expect("just built");
    assert!(output.status.success());
    Some(String::from_utf8(output.stdout).expect("text"))
}

const C99: &[&str] = &["cc", "-std=c99", "-xc"];
const CPP17: &[&str] = &["g++", "-std=c++17", "-xc++"];

/// `size` or `offset`, structure, field, number: one line each, as this library has it.
macro_rules! layout {
    ($($c:literal = $rust:ident { $($field:ident)* };)*) => {{
        let mut fields: Vec<(&str, &str, usize)> = Vec::new();
        $(fields.push(($c, "", size_of::<$rust>()));
          $(fields.push(($c, stringify!($field), offset_of!($rust, $field)));)*)*
        fields
    }};
}

#[test]
fn structures_have_the_same_layout_on_both_sides() {
    let fields = layout! {
        "truebound_interval" = CInterval {
            earliest_ns latest_ns tai_earliest_ns tai_latest_ns epoch tai_offset_s status reason reserved
        };
        "truebound_tick" = CTick {
            raw_ns suspended_ns epoch omega_lo omega_hi cap_lo cap_hi phase_rate half_wander
        };
        "truebound_elapsed" = CElapsed { least_ns most_ns };
        "truebound_publication" = CPublication {
            status reason epoch half_width_ns groups_configured groups_answering foretold source
        };
    };
    let (mut program, mut expected) = (String::new(), String::new());
    for (structure, field, number) in &fields {
        let expression = match *field {
            "" => format!("sizeof(struct {structure})"),
            field => format!("offsetof(struct {structure}, {field})"),
        };
        writeln!(program, "    printf(\"{structure}.{field} %zu\\n\", {expression});").expect("a string");
        writeln!(expected, "{structure}.{field} {number}").expect("a string");
    }
    let source =
        format!("#include <truebound.h>\n#include <stdio.h>\nint main(void)\n{{\n{program}    return 0;\n}}\n");
    for (name, compiler) in [("c", C99), ("cpp", CPP17)] {
        if let Some(printed) = output_of(name, compiler, &source) {
            assert_eq!(printed, expected);
        }
    }
}

/// The header's `#define`s with this beginning: the rest of the name in lower case with hyphens, and the number.
fn defines(beginning: &str) -> Vec<(String, u32)> {
    let define = |line: &str| {
        let (name, rest) = line.strip_prefix("#define ")?.strip_prefix(beginning)?.split_once(' ')?;
        Some((name.to_lowercase().replace('_', "-"), rest.split_whitespace().next()?.parse().ok()?))
    };
    HEADER.lines().filter_map(define).collect()
}

#[test]
fn statuses_and_reasons_are_the_clients() {
    let statuses: Vec<_> = Status::ALL.iter().map(|&status| (status.name().to_owned(), status as u32)).collect();
    assert_eq!(defines("TRUEBOUND_STATUS_"), statuses);
    let mut reasons: Vec<_> = Reason::ALL.iter().map(|&reason| (reason.name().to_owned(), reason as u32)).collect();
    reasons.sort_by_key(|&(_, number)| number);
    assert_eq!(defines("TRUEBOUND_REASON_"), reasons, "truebound.h lacks a reason, or has one too many");
    assert_eq!(defines("TRUEBOUND_ABI_"), [("version".to_owned(), truebound::truebound_abi_version())]);
}

#[test]
fn status_names_are_the_clients() {
    let name = |status| {
        // SAFETY: a constant C string, by the function's contract.
        unsafe { CStr::from_ptr(truebound::truebound_status_name(status)) }.to_str().expect("ASCII")
    };
    for status in Status::ALL {
        assert_eq!(name(status as u32), status.name());
    }
    for unknown in [6, 256, u32::MAX] {
        assert_eq!(name(unknown), "unknown");
    }
}

/// The text of an error through a buffer of `size` bytes (at most 256), and the length that the function states.
fn error_text(error: i32, size: usize) -> (String, usize) {
    let mut buffer = [0x7f_u8; 256];
    // SAFETY: the buffer has `size` bytes and more.
    let length = unsafe { truebound::truebound_error_text(error, buffer.as_mut_ptr().cast(), size) };
    assert!(buffer[size..].iter().all(|&byte| byte == 0x7f), "it wrote beyond the buffer");
    let text = CStr::from_bytes_until_nul(&buffer[..size]).expect("a zero at the end");
    (text.to_str().expect("English").to_owned(), length)
}

#[test]
fn every_error_of_the_header_has_a_text_and_no_other_number_has() {
    let unknown = error_text(98, 256).0;
    let known: Vec<u32> = defines("TRUEBOUND_ERR_").into_iter().map(|(_, number)| number).collect();
    for number in 1..200 {
        let text = error_text(number, 256).0;
        assert_eq!(known.contains(&number.unsigned_abs()) && number != 99, text != unknown, "{number}: {text}");
    }
    assert!(error_text(-2, 256).0.contains("No such file"), "{}", error_text(-2, 256).0);
    for extreme in [i32::MIN, i32::MAX, -1] {
        assert!(!error_text(extreme, 256).0.is_empty());
    }
}

#[test]
fn texts_are_cut_to_the_buffer_and_state_their_length() {
    let (whole, length) = error_text(21, 256);
    assert_eq!(whole.len(), length);
    for size in [1, 2, length, length + 1] {
        let (cut, stated) = error_text(21, size);
        assert_eq!((cut.as_str(), stated), (&whole[..length.min(size - 1)], length));
    }
    // SAFETY: no buffer, and none is needed.
    assert_eq!(unsafe { truebound::truebound_error_text(21, std::ptr::null_mut(), 0) }, length);
    // SAFETY: as above; a size without a buffer writes nothing.
    let length = unsafe { truebound::truebound_reason_text(3, std::ptr::null_mut(), 9) };
    assert_eq!(length, Reason::Majority.meaning().len());
}
