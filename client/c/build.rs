//! Names the shared library after its ABI, so that a program never loads another one by accident.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libtruebound.so.1");
}
