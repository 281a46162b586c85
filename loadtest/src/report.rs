//! What a run leaves: a table for people, JSON for programs, an exit code.

use crate::figures::percentiles;
use crate::limits::LAG_P99_MAX;
use crate::talk::Outcome;
use anyhow::{Context as _, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::path::Path;

/// A progress bar that goes away when it ends; none where nobody looks.
pub(crate) fn bar(length: u64, message: &'static str) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style).with_message(message)
}

/// The figures every report starts with.
pub(crate) fn header(scenario: &str, seed: u64, config: &Value) -> Value {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    json!({
        "scenario": scenario,
        "version": env!("CARGO_PKG_VERSION"),
        "at": schemas::cloud_events::rfc3339(domain::LogTime(since.as_millis() as u64)),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "seed": seed,
        "config": config,
        "limits": {
            "lag_p99_ms_max": LAG_P99_MAX.as_millis() as u64,
            "open_files_max": crate::process::open_files_max(),
        },
    })
}

/// The report of people who talked.
pub(crate) fn of_talk(mut report: Value, outcome: &Outcome) -> Value {
    let figures = &outcome.figures;
    let per_second = |count: u64| count as f64 / outcome.measured_seconds.max(0.001);
    let cpu_us = outcome.server_cpu_s.map(|cpu| cpu * 1e6 / figures.delivered_measured.max(1) as f64);
    let lag_p99 = std::time::Duration::from_micros(figures.lag.value_at_quantile(0.99));
    let measured = json!({
        "sent": figures.sent,
        "acked": figures.acked,
        "delivered": figures.delivered,
        "lost": outcome.lost,
        "duplicated": figures.duplicated,
        "out_of_order": figures.out_of_order,
        "unacknowledged": outcome.unacknowledged,
        "refused": figures.refused,
        "resent": figures.resent,
        "closed": figures.closed,
        "unreadable": figures.unreadable,
        "ack_ms": percentiles(&figures.ack),
        "deliver_ms": percentiles(&figures.deliver),
        "lag_ms": percentiles(&figures.lag),
        "acked_per_s": per_second(figures.acked_measured),
        "delivered_per_s": per_second(figures.delivered_measured),
        "measured_s": outcome.measured_seconds,
        "connections": outcome.connections,
        "connect_s": outcome.connect_seconds,
        "server_rss_bytes": outcome.server_rss_bytes,
        "server_cpu_s": outcome.server_cpu_s,
        "server_cpu_us_per_delivered": cpu_us,
        "client_cpu_s": outcome.client_cpu_s,
        "void": lag_p99 > LAG_P99_MAX,
        "remarks": figures.remarks,
        "seconds": figures.seconds,
    });
    extend(&mut report, measured);
    report
}

/// Adds the fields of one object to another.
pub(crate) fn extend(report: &mut Value, fields: Value) {
    if let (Value::Object(report), Value::Object(fields)) = (report, fields) {
        report.extend(fields);
    }
}

/// What must hold of every run, whatever thresholds are given.
const ALWAYS: [&str; 6] = ["lost=0", "duplicated=0", "out_of_order=0", "unacknowledged=0", "refused=0", "unreadable=0"];

/// Judges, shows and writes a report; whether it passed.
pub(crate) fn conclude(mut report: Value, required: &[String], json_file: Option<&Path>) -> Result<bool> {
    let mut failures: Vec<String> = Vec::new();
    for condition in ALWAYS.iter().map(|&condition| condition.to_owned()).chain(required.iter().cloned()) {
        let always = ALWAYS.contains(&condition.as_str());
        let (path, operator, bound) = parse(&condition)?;
        match at(&report, &path).and_then(Value::as_f64) {
            Some(value) if operator.holds(value, bound) => {}
            Some(value) => failures.push(format!("{condition}: it is {}", short(value))),
            None if always => {}
            None => failures.push(format!("{condition}: not measured")),
        }
    }
    let void = report["void"].as_bool().unwrap_or_default();
    if void {
        failures.push("void: this client itself lagged; give it more of the machine".to_owned());
    }
    report["failures"] = json!(failures);
    report["passed"] = json!(failures.is_empty());
    show(&report);
    if let Some(file) = json_file {
        let text = format!("{report:#}\n");
        std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(failures.is_empty())
}

/// How a threshold compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    AtMost,
    AtLeast,
    Equal,
}

impl Operator {
    fn holds(self, value: f64, bound: f64) -> bool {
        match self {
            Self::AtMost => value <= bound,
            Self::AtLeast => value >= bound,
            Self::Equal => (value - bound).abs() < f64::EPSILON,
        }
    }
}

/// Reads `path<=number`, `path>=number` or `path=number`.
fn parse(condition: &str) -> Result<(String, Operator, f64)> {
    for (sign, operator) in [("<=", Operator::AtMost), (">=", Operator::AtLeast), ("=", Operator::Equal)] {
        if let Some((path, bound)) = condition.split_once(sign) {
            let bound = bound.trim().parse().with_context(|| format!("`{condition}`: no number behind {sign}"))?;
            return Ok((path.trim().to_owned(), operator, bound));
        }
    }
    anyhow::bail!("`{condition}` is not of the form field<=number, field>=number or field=number")
}

/// Checks thresholds before a run, not after it.
pub(crate) fn check(required: &[String]) -> Result<()> {
    required.iter().try_for_each(|condition| parse(condition).map(drop))
}

/// A field by its path: `ack_ms.p99`.
pub(crate) fn at<'a>(report: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(report, |value, key| value.get(key))
}

fn show(report: &Value) {
    println!("\n{} on {} cores", report["scenario"].as_str().unwrap_or("?"), report["cores"]);
    let Some(fields) = report.as_object() else { return };
    for (name, value) in fields {
        if [
            "scenario", "cores", "version", "at", "limits", "config", "seconds", "passed", "failures", "remarks",
            "void",
        ]
        .contains(&name.as_str())
        {
            continue;
        }
        match value {
            Value::Object(of) if of.contains_key("p50") => {
                let figure = |key: &str| short(of[key].as_f64().unwrap_or_default());
                println!("  {name:<28} p50 {}  p99 {}  max {}", figure("p50"), figure("p99"), figure("max"));
            }
            Value::Number(number) => println!("  {name:<28} {}", short(number.as_f64().unwrap_or_default())),
            Value::Null => {}
            other => println!("  {name:<28} {other}"),
        }
    }
    for remark in report["remarks"].as_array().into_iter().flatten() {
        println!("  ! {}", remark.as_str().unwrap_or_default());
    }
    for failure in report["failures"].as_array().into_iter().flatten() {
        println!("  FAILED {}", failure.as_str().unwrap_or_default());
    }
    if report["passed"].as_bool().unwrap_or_default() {
        println!("  passed");
    }
}

/// A figure for people.
pub(crate) fn short(value: f64) -> String {
    if value.fract() == 0.0 || value.abs() >= 1_000.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

/// Shows two reports side by side, B in terms of A, and judges ratios.
pub(crate) fn compare(a: &Path, b: &Path, required: &[String]) -> Result<bool> {
    let read = |path: &Path| -> Result<Value> {
        let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is no report", path.display()))
    };
    let (a, b) = (read(a)?, read(b)?);
    for (name, report) in [("A", &a), ("B", &b)] {
        if report["void"].as_bool().unwrap_or_default() {
            println!("{name} is void: its client lagged");
        }
    }
    println!("{:<30}{:>14}{:>14}{:>10}", "", "A", "B", "B / A");
    let mut ratios = json!({});
    for path in COMPARED {
        let figure = |report| at(report, path).and_then(Value::as_f64);
        if let (Some(of_a), Some(of_b)) = (figure(&a), figure(&b)) {
            let ratio = if of_a == 0.0 { f64::NAN } else { of_b / of_a };
            println!("{path:<30}{:>14}{:>14}{ratio:>10.3}", short(of_a), short(of_b));
            ratios[path.replace('.', "_")] = json!(ratio);
        }
    }
    ensure!(ratios.as_object().is_some_and(|ratios| !ratios.is_empty()), "the reports have no figure in common");
    let mut passed = true;
    for condition in required {
        let (path, operator, bound) = parse(condition)?;
        let ratio = ratios[path.replace('.', "_")].as_f64();
        if !ratio.is_some_and(|ratio| operator.holds(ratio, bound)) {
            println!("FAILED {condition}: it is {}", ratio.map_or("not measured".to_owned(), short));
            passed = false;
        }
    }
    Ok(passed)
}

/// What can be compared.
const COMPARED: [&str; 17] = [
    "sent",
    "acked",
    "delivered",
    "lost",
    "acked_per_s",
    "delivered_per_s",
    "ack_ms.p50",
    "ack_ms.p99",
    "ack_ms.max",
    "deliver_ms.p50",
    "deliver_ms.p99",
    "deliver_ms.max",
    "connect_s",
    "server_rss_bytes",
    "server_cpu_s",
    "server_cpu_us_per_delivered",
    "bytes_per_connection",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_read_and_judged() {
        let report = json!({"lost": 0, "ack_ms": {"p99": 4.5}, "void": false});
        let judge = |conditions: &[&str]| {
            let conditions: Vec<String> = conditions.iter().map(|&condition| condition.to_owned()).collect();
            conclude(report.clone(), &conditions, None).expect("a judgement")
        };
        assert!(judge(&["ack_ms.p99<=5", "ack_ms.p99 >= 4", "lost=0"]));
        assert!(!judge(&["ack_ms.p99<=4"]));
        assert!(!judge(&["nothing>=4"]), "what was not measured does not pass");
        for wrong in ["lost", "lost<=x", "<"] {
            assert!(check(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_run_that_lost_something_or_lagged_never_passes() {
        for report in [json!({"lost": 1}), json!({"duplicated": 2}), json!({"void": true})] {
            assert!(!conclude(report, &[], None).expect("a judgement"));
        }
    }

    #[test]
    fn two_reports_are_compared_by_ratio() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = ["a", "b"].map(|name| folder.path().join(name));
        std::fs::write(&files[0], r#"{"delivered_per_s": 100.0}"#).expect("written");
        std::fs::write(&files[1], r#"{"delivered_per_s": 45.0}"#).expect("written");
        assert!(compare(&files[0], &files[1], &["delivered_per_s>=0.4".to_owned()]).expect("compared"));
        assert!(!compare(&files[0], &files[1], &["delivered_per_s>=0.5".to_owned()]).expect("compared"));
    }
}
