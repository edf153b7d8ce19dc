//! The table of docs/security.md names tests that there are.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use std::collections::HashSet;
use std::path::Path;

/// Every function below a folder that stands behind a `#[test]` or in a `proptest!`.
fn functions(folder: &Path, found: &mut HashSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            functions(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let mut is_test = false;
            for line in text.lines().map(str::trim) {
                if line.starts_with("#[") {
                    is_test |= line == "#[test]" || line.starts_with("#[tokio::test");
                    continue;
                }
                let declared = line.trim_start_matches("async ").strip_prefix("fn ");
                if let (true, Some(rest)) = (is_test, declared) {
                    found.insert(rest.split('(').next().unwrap().to_owned());
                }
                is_test = false;
            }
        }
    }
}

#[test]
fn every_promise_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut known = HashSet::new();
    functions(root, &mut known);
    let text = std::fs::read_to_string(root.join("docs/security.md")).unwrap();
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() > 10, "{rows:?}");
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        let [_promise, _mechanism, tests] = cells[..] else { unreachable!("three cells: {row}") };
        let tests: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "no test for: {row}");
        for test in tests {
            assert!(known.contains(test), "there is no test {test}");
        }
    }
}
