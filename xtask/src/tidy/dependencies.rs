//! Who may depend on whom: said ← kept ← roles ← runs ← known, no role on another, adapters named by two crates only.

use crate::tree;
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::process::Command;

const ROLES: &[&str] = &["gateway", "api", "sequencer", "writer", "fanout"];
const ADAPTERS: &[&str] = &["eventlog-embedded", "store-embedded"];
/// Test code may also name the harness that runs whole clusters.
const HARNESS: &str = "testkit";

/// A crate and the crates of this workspace that it may name.
const MAY_NAME: &[(&str, &[&str])] = &[
    // said
    ("domain", &[]),
    ("schemas", &["domain"]),
    // kept
    ("eventlog", &[]),
    ("eventlog-embedded", &["eventlog", "runtime"]),
    ("store", &["domain"]),
    ("store-embedded", &["store", "domain", "schemas", "runtime"]),
    ("timeline", &["domain", "schemas", "eventlog", "runtime"]),
    // runs
    ("runtime", &[]),
    // known
    ("loadtest", &["schemas", "runtime", "domain"]),
    ("xtask", &[]),
];
const ROLE_MAY_NAME: &[&str] = &["domain", "schemas", "eventlog", "store", "timeline", "runtime"];
/// What the binary and the harness may name beside [`ROLE_MAY_NAME`], roles and adapters.
const TOP: &[&str] = &["hubbub", HARNESS];

/// Every edge that the layout forbids, and every crate that the layout does not know.
pub(super) fn complaints() -> Result<Vec<String>> {
    let output = Command::new(tree::cargo())
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(tree::root())
        .output()
        .context("starting cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    judge(&serde_json::from_slice(&output.stdout).context("reading cargo metadata")?)
}

fn judge(metadata: &Value) -> Result<Vec<String>> {
    let packages = metadata["packages"].as_array().context("cargo metadata lists packages")?;
    let mut complaints = Vec::new();
    for package in packages {
        let name = package["name"].as_str().context("a package has a name")?;
        let Some(allowed) = allowed(name) else {
            complaints
                .push(format!("{name}: the layout does not know this crate; give it a place in tidy/dependencies.rs"));
            continue;
        };
        for dependency in package["dependencies"].as_array().context("a package lists dependencies")? {
            let on = dependency["name"].as_str().context("a dependency has a name")?;
            let ours = dependency["path"].is_string();
            let in_tests = dependency["kind"] == "dev";
            if ours && !allowed.contains(&on) && !(in_tests && (on == HARNESS || on == name)) {
                complaints.push(format!("{name}: must not depend on {on} (said ← kept ← roles ← runs ← known)"));
            }
        }
    }
    Ok(complaints)
}

fn allowed(name: &str) -> Option<Vec<&'static str>> {
    if ROLES.contains(&name) {
        return Some(ROLE_MAY_NAME.to_vec());
    }
    if TOP.contains(&name) {
        return Some([ROLE_MAY_NAME, ROLES, ADAPTERS].concat());
    }
    MAY_NAME.iter().find(|(known, _)| *known == name).map(|(_, may)| may.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::must_be_silent;
    use serde_json::json;

    fn workspace(package: &str, dependency: &str, kind: &Value) -> Value {
        json!({"packages": [{"name": package, "dependencies": [{"name": dependency, "path": "/x", "kind": kind}]}]})
    }

    #[test]
    fn dependencies_point_down_the_layout() {
        must_be_silent(&complaints().expect("cargo metadata can be read"));
    }

    #[test]
    fn forbidden_edges_are_found() {
        for (package, dependency) in [
            ("gateway", "fanout"),
            ("writer", "store-embedded"),
            ("timeline", "store"),
            ("domain", "runtime"),
            ("eventlog", "domain"),
            ("loadtest", "testkit"),
            ("hubbub", "testkit"),
            ("testkit", "hubbub"),
        ] {
            let found = judge(&workspace(package, dependency, &Value::Null)).expect("it is metadata");
            assert_eq!(found.len(), 1, "{package} → {dependency}");
        }
    }

    #[test]
    fn a_role_reaches_adapters_in_tests_only_through_the_harness() {
        let through = judge(&workspace("writer", "testkit", &json!("dev"))).expect("it is metadata");
        assert_eq!(through, Vec::<String>::new());
        let around = judge(&workspace("writer", "store-embedded", &json!("dev"))).expect("it is metadata");
        assert_eq!(around.len(), 1);
    }

    #[test]
    fn a_crate_without_a_place_in_the_layout_is_found() {
        let found = judge(&workspace("helpers", "domain", &Value::Null)).expect("it is metadata");
        assert_eq!(found.len(), 1);
    }
}
