//! House rules, checked by a machine. Each says why it is there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Folders that aren't ours.
const FOREIGN: [&str; 4] = ["target", ".git", ".ecron", "node_modules"];

/// A file past this is a question to answer, not a crime. The answers:
const LINES_MAX: usize = 500;
const LONG_FILES: [(&str, &str); 6] = [
    (
        "store/src/record.rs",
        "stored forms, their reading and their golden texts are only understood side by side",
    ),
    ("planner/src/completeness.rs", "a look, what it finds and what it puts right are one walk over a page"),
    ("store/src/redis/ledger.rs", "one trait's methods, each a script's call and its reply"),
    ("store/src/conformance/random.rs", "an operation is drawn, carried out and compared in one place"),
    ("tests/suites/store.rs", "all that only a real Redis shows"),
    ("tests/suites/bus.rs", "all that only a real NATS shows"),
];

/// The one file that speaks to a server beside the crate that owns it, and the package that it is in.
const BARE_NATS: (&str, &str) = ("cli/src/bench/bare.rs", "cli"); // the benchmark's floor is JetStream without us

/// Which of our crates a crate may use (design, section 6). `tests` may use them all.
const MAY_USE: [(&str, &[&str]); 9] = [
    ("model", &[]),
    ("ambient", &["model"]),
    ("store", &["model", "ambient"]),
    ("bus", &["model", "ambient"]),
    ("planner", &["model", "ambient", "store", "bus"]),
    ("dispatcher", &["model", "ambient", "store", "bus"]),
    ("executor-sdk", &["model", "ambient", "bus"]),
    ("console", &["model", "ambient", "bus", "planner"]),
    ("cli", &["model", "ambient", "store", "bus", "planner", "dispatcher", "executor-sdk", "console"]),
];

struct SourceFile {
    /// From the repository's root, with `/`.
    path: String,
    text: String,
}

fn root() -> anyhow::Result<PathBuf> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?)
}

/// Every text file of ours.
fn files() -> anyhow::Result<Vec<SourceFile>> {
    let root = root()?;
    let mut folders = vec![root.clone()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_symlink() || FOREIGN.contains(&name) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                let path = path.strip_prefix(&root)?.to_string_lossy().replace('\\', "/");
                files.push(SourceFile { path, text });
            }
        }
    }
    assert!(files.len() > 100, "the repository is somewhere else: {}", root.display());
    Ok(files)
}

fn rust_files() -> anyhow::Result<Vec<SourceFile>> {
    let mut files = files()?;
    files.retain(|file| file.path.ends_with(".rs"));
    Ok(files)
}

/// Every line (from 1) that breaks a rule.
fn offences<'a>(files: &'a [SourceFile], breaks: impl Fn(&str, &str) -> bool + 'a) -> Vec<String> {
    let lines =
        files.iter().flat_map(|file| file.text.lines().enumerate().map(move |(n, line)| (file, n + 1, line)));
    lines
        .filter(|(file, _, line)| breaks(&file.path, line))
        .map(|(file, number, line)| format!("{}:{number}: {}", file.path, line.trim()))
        .collect()
}

/// Whether a path of a crate, such as `redis::`, begins in this line; `store::redis::` is something else.
fn names_crate(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let is_path = line[at + name.len()..].starts_with("::");
        is_path && !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
    })
}

/// A server's client in one place: so that the rest can be tested without it, and it can be replaced.
#[test]
fn each_server_is_spoken_to_in_one_place() -> anyhow::Result<()> {
    let files = rust_files()?;
    let found = offences(&files, |path, line| {
        let is_test = path.starts_with("tests/") || path.contains("/tests/");
        let redis = names_crate(line, "redis") && !path.starts_with("store/src/redis");
        let nats =
            names_crate(line, "async_nats") && !path.starts_with("bus/src/nats") && path != BARE_NATS.0;
        !is_test && !line.trim_start().starts_with("//") && (redis || nats)
    });
    assert!(
        found.is_empty(),
        "`redis::` belongs to store/src/redis, `async_nats::` to bus/src/nats:\n{}",
        found.join("\n")
    );
    // It sees what it should see.
    assert!(
        names_crate("use redis::Client;", "redis") && !names_crate("use store::redis::RedisStore;", "redis")
    );
    let inside = files.iter().filter(|file| file.text.lines().any(|line| names_crate(line, "async_nats")));
    assert!(inside.into_iter().any(|file| file.path.starts_with("bus/src/nats")));
    Ok(())
}

/// Services never depend on services, nor the rules on anything: so each can be understood, and run, alone.
#[test]
fn dependencies_point_one_way() -> anyhow::Result<()> {
    let names: BTreeSet<&str> = MAY_USE.iter().map(|(name, _)| *name).collect();
    for (name, may_use) in MAY_USE {
        let path = root()?.join(name).join("Cargo.toml");
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let mut section = "";
        for line in text.lines() {
            if line.starts_with('[') {
                section = line;
            }
            // Tests may use more.
            if !section.contains("dependencies") || section.contains("dev-dependencies") {
                continue;
            }
            let dependency = line.split(['.', '=', ' ']).next().unwrap_or_default();
            let foreign = names.contains(dependency) && !may_use.contains(&dependency);
            assert!(!foreign, "{name} may not use {dependency}");
            let client = [("redis", "store"), ("async-nats", "bus")];
            for (client, owner) in client {
                let may = name == owner || (client == "async-nats" && name == BARE_NATS.1);
                assert!(dependency != client || may, "{name} may not use {client}: that is {owner}'s");
            }
        }
    }
    Ok(())
}

/// Small files are read; long ones are searched.
#[test]
fn long_files_have_a_reason() -> anyhow::Result<()> {
    let long: BTreeMap<String, usize> = rust_files()?
        .into_iter()
        .map(|file| (file.path, file.text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .collect();
    let unexplained: Vec<_> =
        long.iter().filter(|(path, _)| LONG_FILES.iter().all(|(known, _)| known != path)).collect();
    assert!(unexplained.is_empty(), "split them, or say in LONG_FILES why not: {unexplained:#?}");
    for (path, _) in LONG_FILES {
        assert!(long.contains_key(path), "{path} is no longer long; strike it from LONG_FILES");
    }
    Ok(())
}

/// A reader learns from the first paragraph whether this is the file that they look for.
#[test]
fn every_file_says_what_it_owns() -> anyhow::Result<()> {
    let silent: Vec<String> = rust_files()?
        .into_iter()
        .filter(|file| {
            let first = file.text.lines().next().unwrap_or_default();
            first.strip_prefix("//!").is_none_or(|words| words.trim().is_empty())
        })
        .map(|file| file.path)
        .collect();
    assert!(silent.is_empty(), "these begin without a `//!` paragraph: {silent:#?}");
    Ok(())
}

/// What is not done isn't merged, and what was for debugging isn't either.
#[test]
fn nothing_is_left_unfinished() -> anyhow::Result<()> {
    // Put together here, so that this file doesn't break its own rule.
    let words = ["todo", "unimplemented", "dbg"].map(|word| format!("{word}!("));
    let found = offences(&rust_files()?, |_, line| words.iter().any(|word| line.contains(word.as_str())));
    assert!(found.is_empty(), "{}", found.join("\n"));
    let marks = ["FIXME", "XXX"].map(|mark| format!("{mark}:"));
    let found = offences(&rust_files()?, |_, line| marks.iter().any(|mark| line.contains(mark.as_str())));
    assert!(found.is_empty(), "write an issue instead:\n{}", found.join("\n"));
    Ok(())
}

/// The repository works wherever it is cloned to.
#[test]
fn no_path_of_this_machine_is_written_down() -> anyhow::Result<()> {
    let root = root()?;
    // The clone and the folders above it, down to two names: `/home/somebody` gives a machine away, `/home` doesn't.
    let mut paths: Vec<String> = root
        .ancestors()
        .filter(|folder| folder.components().count() > 2)
        .map(|folder| folder.display().to_string())
        .collect();
    let home = std::env::var("HOME").unwrap_or_default();
    if Path::new(&home).components().count() > 2 {
        paths.push(home);
    }
    let found = offences(&files()?, |_, line| paths.iter().any(|path| line.contains(path.as_str())));
    assert!(found.is_empty(), "{}", found.join("\n"));
    Ok(())
}

/// Everybody builds from the same public registries.
#[test]
fn packages_come_from_the_public_registries() -> anyhow::Result<()> {
    let lock = std::fs::read_to_string(root()?.join("Cargo.lock"))?;
    let foreign: Vec<&str> = lock
        .lines()
        .filter(|line| {
            line.starts_with("source = ") && !line.contains("https://github.com/rust-lang/crates.io-index")
        })
        .collect();
    assert!(foreign.is_empty(), "{foreign:#?}");
    let python = std::fs::read_to_string(root()?.join("tests/requirements.txt"))?;
    assert!(!python.contains("index-url") && python.contains("--hash=sha256:"), "{python}");
    Ok(())
}
