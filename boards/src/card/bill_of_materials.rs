//! What is on a card, as CycloneDX 1.5 says it: Debian's packages, our programs and their crates, and the model.

use crate::packages::Lock;
use crate::tools::CARGO;
use edge_runtime::model::Model;
use serde_json::{Value, json};

/// A crate of the device's programs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Crate {
    name: String,
    version: String,
    licence: String,
}

/// The bill of materials of a card. It says that it is incomplete: Rust's own library and musl are not in it, nor the
/// crates where cargo cannot say which they are.
pub fn bill(board: &str, version: &str, lock: &Lock, model: &Model, target: &str) -> Value {
    let packages = lock.packages.iter().map(|package| {
        json!({
            "type": "library",
            "name": package.name,
            "version": package.version,
            "purl": format!("pkg:deb/debian/{}@{}?arch={}", package.name, package.version, package.architecture),
            "hashes": [{ "alg": "SHA-256", "content": package.sha256 }],
            "licenses": [{ "expression": package.licence }],
        })
    });
    let crates = crates(target);
    let crates = crates.into_iter().map(|c| {
        let mut component = json!({
            "type": "library",
            "name": c.name,
            "version": c.version,
            "purl": format!("pkg:cargo/{}@{}", c.name, c.version),
        });
        if !c.licence.is_empty() {
            component["licenses"] = json!([{ "expression": c.licence.replace('/', " OR ") }]);
        }
        component
    });
    let provenance = &model.contract.provenance;
    let model = json!({
        "type": "machine-learning-model",
        "name": provenance.name,
        "version": model.digest,
        "hashes": [{ "alg": "SHA-256", "content": model.digest }],
        "description": edge_runtime::finding::STATEMENT,
    });
    let components: Vec<Value> = packages.chain(crates).chain([model]).collect();
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": { "type": "firmware", "name": format!("hilum-{board}"), "version": version } },
        "components": components,
        "compositions": [{ "aggregate": "incomplete" }],
    })
}

fn crates(target: &str) -> Vec<Crate> {
    let arguments = ["tree", "--locked", "--target", target, "-e", "normal", "--prefix", "none", "-f", "{p}|{l}"];
    let tree = CARGO.run(|command| command.args(arguments).args(["-p", "edge-runtime", "-p", "init"]));
    let tree = String::from_utf8_lossy(&tree.unwrap_or_default()).into_owned();
    let mut crates: Vec<Crate> = tree.lines().filter_map(parse).collect();
    crates.sort();
    crates.dedup();
    crates
}

/// A line such as `serde v1.0.0|MIT OR Apache-2.0`, perhaps with marks behind it.
fn parse(line: &str) -> Option<Crate> {
    let (package, licence) = line.split_once('|')?;
    let mut words = package.split_whitespace();
    let name = words.next()?.to_owned();
    let version = words.next()?.strip_prefix('v')?.to_owned();
    let licence = licence.trim_end_matches("(*)").trim().to_owned();
    Some(Crate { name, version, licence })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_are_read_from_cargos_tree() {
        let parsed = parse("serde v1.0.228 (proc-macro)|MIT OR Apache-2.0 (*)").unwrap();
        assert_eq!(parsed.name, "serde");
        assert_eq!([parsed.version, parsed.licence], ["1.0.228", "MIT OR Apache-2.0"]);
        assert_eq!(parse(""), None);
    }
}
