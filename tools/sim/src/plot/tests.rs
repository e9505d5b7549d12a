use super::*;

/// No attribute is not a number, and every element is closed.
fn well_formed(svg: &str) {
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    let count = |what: &str| svg.matches(what).count();
    assert_eq!(count("<g "), count("</g>"));
    assert_eq!(count("<text "), count("</text>"));
}

fn interval(t_s: &[f64], earliest_ns: &[f64], latest_ns: &[f64], error_ns: &[f64]) -> String {
    Interval { t_s, earliest_ns, latest_ns, lines: &[Line { name: "a<b", error_ns }] }.svg()
}

#[test]
fn many_instants_make_a_small_figure_that_loses_no_miss() {
    let n = 200_000;
    let t_s: Vec<f64> = (0..n).map(|i| f64::from(i) * 0.1).collect();
    let mut earliest = vec![-5e3; t_s.len()];
    let (latest, error) = (vec![6e3; t_s.len()], (0..n).map(|i| f64::from(i % 100)).collect::<Vec<_>>());
    let clean = interval(&t_s, &earliest, &latest, &error);
    well_formed(&clean);
    assert!(clean.len() < 120_000 && !clean.contains("class=\"miss\""), "{}", clean.len());
    assert!(clean.contains("a&lt;b"));
    earliest[123_456] = 1.0;
    assert_eq!(interval(&t_s, &earliest, &latest, &error).matches("class=\"miss\"").count(), 1);
}

#[test]
fn figures_of_nothing_and_of_gaps_are_well_formed() {
    well_formed(&interval(&[], &[], &[], &[]));
    well_formed(&interval(&[1.0], &[-1.0], &[1.0], &[0.0]));
    let (nan, infinite) = (f64::NAN, f64::INFINITY);
    well_formed(&interval(&[1.0, 2.0, 3.0], &[-infinite, -1.0, nan], &[infinite, 1.0, nan], &[nan, 0.0, nan]));
    for error_ns in [&[] as &[i64], &[0, 0], &[5], &[-1, 1_000_000_000_000, i64::MIN]] {
        well_formed(&Distribution { quantity: "error", series: &[Errors { name: "x", error_ns }] }.svg());
    }
    let row = |p50_ns, max_ns| Range { name: "a<b".to_owned(), colour: 1, p50_ns, p99_ns: max_ns, max_ns };
    for rows in [vec![], vec![row(0, 0)], vec![row(10, 1_000_000_000), row(-1, i64::MAX)]] {
        let groups = [("idle".to_owned(), rows)];
        well_formed(&Ranges { quantity: "error", kinds: &["x"], groups: &groups }.svg());
    }
}
