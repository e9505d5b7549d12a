//! The diagnosis for people: one line for each interface, one for each finding, its fix below.

use super::{Diagnosis, Finding, Outcome, Verdict};

/// Aligned text; colours only where a terminal shows them.
pub(crate) fn text(diagnosis: &Diagnosis, has_colours: bool) -> String {
    let mut text = String::new();
    let width = |names: &mut dyn Iterator<Item = &str>| names.map(|name| name.chars().count()).max().unwrap_or(0);
    let wide = width(&mut diagnosis.interfaces.iter().map(|nic| nic.name.as_str()));
    for nic in &diagnosis.interfaces {
        let driver = nic.driver.as_deref().unwrap_or(nic.kind);
        text += &format!("{:wide$}  {} ({driver})\n", nic.name, nic.would_use);
    }
    if !diagnosis.interfaces.is_empty() {
        text.push('\n');
    }
    let wide = width(&mut diagnosis.findings.iter().map(|finding| finding.check));
    for finding in &diagnosis.findings {
        let Finding { check, interface, verdict, says, fix } = finding;
        let place = interface.as_ref().map_or(String::new(), |interface| format!("{interface}: "));
        text += &format!("{} {check:wide$}  {place}{says}\n", paint(mark(*verdict), *verdict, has_colours));
        if let Some(fix) = fix {
            text += &format!("  {:wide$}  → {fix}\n", "");
        }
    }
    text + "\n" + conclusion(diagnosis.verdict) + "\n"
}

fn mark(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "✓",
        Outcome::Note => "•",
        Outcome::Missing => "✗",
        Outcome::Problem => "‼",
    }
}

fn paint(mark: &str, outcome: Outcome, has_colours: bool) -> String {
    let colour = match outcome {
        Outcome::Ok => 32,
        Outcome::Note => 36,
        Outcome::Missing => 33,
        Outcome::Problem => 31,
    };
    if has_colours { format!("\x1b[{colour}m{mark}\x1b[0m") } else { mark.to_owned() }
}

fn conclusion(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ready => "ready: all that this host can do would be used",
        Verdict::Degraded => "degraded: what is marked ✗ is hindered; the rest works",
        Verdict::Unable => "unable: solve what is marked ‼ first",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_aligned_and_coloured_only_on_demand() {
        let findings = vec![
            Finding::ok("a", "good").of("eth0"),
            Finding::missing("longer", "bad", "mend it"),
            Finding::problem("b", "worse", "now"),
        ];
        let diagnosis = Diagnosis { verdict: Verdict::Unable, interfaces: Vec::new(), findings };
        let plain = text(&diagnosis, false);
        let expected = "\
✓ a       eth0: good
✗ longer  bad
          → mend it
‼ b       worse
          → now

unable: solve what is marked ‼ first
";
        assert_eq!(plain, expected);
        let coloured = text(&diagnosis, true);
        assert!(coloured.contains("\x1b[31m‼\x1b[0m") && coloured.contains("\x1b[32m✓\x1b[0m"), "{coloured:?}");
    }
}
