//! Names are the field's terms: words that docs/glossary.md replaced stay out of identifiers and
//! file names, and the glossary's own entries name types that exist.

use super::graph::{Token, tokens};
use super::{files, root, shown};
use std::collections::BTreeSet;
use std::fs;

/// Words that may be no part of an identifier: `PATIENCE`, `dial_patience`, `DialPatience`.
const BANNED_WORDS: &[&str] = &[
    "dice",
    "effort",
    "estate",
    "farewell",
    "furnish",
    "keeper",
    "ledger",
    "mercy",
    "nursery",
    "patience",
    "ringer",
    "seeker",
    "sentinel",
    "sieve",
    "stranger",
    "strangers",
    "tether",
    "tethered",
    "warden",
    "weather",
];

/// Identifiers that had a private meaning. As a part of another name these are ordinary words.
const BANNED_IDENTIFIERS: &[&str] = &[
    "AT_ONCE",
    "AppBooks",
    "Asked",
    "Backlog",
    "Bad",
    "Beat",
    "Behind",
    "Book",
    "Books",
    "BrokerBooks",
    "CROWDED",
    "Door",
    "Entered",
    "Expected",
    "FAIR",
    "Fate",
    "Found",
    "Front",
    "Glance",
    "Good",
    "Held",
    "House",
    "Judge",
    "LAST_CALL",
    "LOOK",
    "Lab",
    "Lane",
    "Life",
    "Line",
    "Marks",
    "Met",
    "NOWHERE",
    "NoBooks",
    "Note",
    "Office",
    "PathNumbers",
    "Pulse",
    "Question",
    "REST",
    "Reachable",
    "Rig",
    "Right",
    "Ringer",
    "SOON",
    "STEPS",
    "Said",
    "Seat",
    "Seeker",
    "Served",
    "ServerTerms",
    "Sheet",
    "Sieve",
    "Sifted",
    "Spread",
    "Sums",
    "Taken",
    "Tally",
    "Terms",
    "Through",
    "Told",
    "Turn",
    "Unanswered",
    "Verdict",
    "ViewerPlace",
    "Wanted",
    "Watched",
    "Way",
    "WebTerms",
    "Whose",
    "Wish",
    "World",
    "a_password",
    "admit",
    "books",
    "carry_out",
    "converses",
    "dialect",
    "dress",
    "first_house",
    "guesses",
    "hand_on",
    "heart",
    "house",
    "keeper",
    "knock",
    "lane",
    "last_words",
    "leads_there",
    "lively",
    "look_again",
    "named_right",
    "office",
    "owed",
    "owes",
    "placing",
    "proven",
    "provens",
    "reaper",
    "rig",
    "rim",
    "settle",
    "sever",
    "stirred",
    "strangers_note",
    "tend",
    "told",
    "touched",
    "trial",
    "trials",
    "unwritten",
    "watch_others",
    "within_share",
];

/// The same, in Rust only: the pages have types of these names, in their ordinary meaning.
const BANNED_IN_RUST: &[&str] = &["Live", "Place"];

/// Names that files and folders had.
const BANNED_FILES: &[&str] = &[
    "bell", "books", "door", "hands", "house", "keeper", "lab", "lane", "ledger", "lines", "marks",
    "narrow", "nursery", "office", "owed", "pulse", "rig", "room", "roster", "sentinel", "terms",
    "tether", "things", "told", "trials", "trouble", "wakes", "warden", "whole", "world",
];

/// The words of an identifier, in lower case.
fn words(identifier: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let chars: Vec<char> = identifier.chars().collect();
    for (at, c) in chars.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| chars[at]);
        let starts = match before {
            None => true,
            Some(before) => {
                before == '_'
                    || (c.is_uppercase() && !before.is_uppercase())
                    || (c.is_uppercase() && chars.get(at + 1).is_some_and(|c| c.is_lowercase()))
            }
        };
        if *c != '_' {
            if starts {
                words.push(String::new());
            }
            words.last_mut().unwrap().extend(c.to_lowercase());
        }
    }
    words
}

/// The identifiers of a file: all of Rust's, and those that TypeScript declares.
fn identifiers(path: &str, text: &str) -> BTreeSet<String> {
    let words = tokens(text);
    let word = |token: &Token| match token {
        Token::Word(word) => Some(word.clone()),
        _ => None,
    };
    if path.ends_with(".rs") {
        return words.iter().filter_map(word).collect();
    }
    const DECLARATIONS: [&str; 7] =
        ["class", "const", "enum", "function", "interface", "let", "type"];
    words
        .windows(2)
        .filter(|pair| word(&pair[0]).is_some_and(|first| DECLARATIONS.contains(&first.as_str())))
        .filter_map(|pair| word(&pair[1]))
        .collect()
}

#[test]
fn replaced_words_stay_out_of_names() {
    let mut wrong = Vec::new();
    for (folder, ending) in [
        ("src", ".rs"),
        ("tests", ".rs"),
        ("benches", ".rs"),
        ("tests/e2e", ".ts"),
        ("static/src", ".ts"),
        ("static/src", ".svelte"),
    ] {
        for file in files(folder, ending) {
            let path = shown(&file);
            let stem = file.file_stem().unwrap().to_string_lossy();
            let stem = stem.split('.').next().unwrap();
            if BANNED_FILES.contains(&stem) {
                wrong.push(format!("{path}: the file's name"));
            }
            if path == "tests/conventions/words.rs" {
                continue;
            }
            for identifier in identifiers(&path, &fs::read_to_string(&file).unwrap()) {
                let parts = words(&identifier);
                if BANNED_IDENTIFIERS.contains(&identifier.as_str())
                    || (ending == ".rs" && BANNED_IN_RUST.contains(&identifier.as_str()))
                    || parts.iter().any(|part| BANNED_WORDS.contains(&part.as_str()))
                {
                    wrong.push(format!("{path}: {identifier}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "see docs/glossary.md:\n{}", wrong.join("\n"));
}

#[test]
fn the_glossary_names_types_that_exist() {
    let text = fs::read_to_string(root().join("docs/glossary.md")).unwrap();
    let names: BTreeSet<Token> = files("src", ".rs")
        .iter()
        .flat_map(|path| tokens(&fs::read_to_string(path).unwrap()))
        .collect();
    let mut terms = 0;
    let rows = text.lines().skip_while(|line| !line.starts_with("| term |")).skip(2);
    for row in rows.take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [term, meaning, source, types] = cells[..] else { panic!("four cells: {row}") };
        assert!(!term.is_empty() && !meaning.is_empty() && !source.is_empty(), "{row}");
        terms += 1;
        for name in types.split('`').skip(1).step_by(2) {
            let name = name.rsplit("::").next().unwrap();
            let exists = names.contains(&Token::Word(name.to_owned()));
            assert!(exists, "{term}: there is no {name} in src");
        }
    }
    assert!(terms >= 35, "{terms} terms");
}

#[test]
fn identifiers_are_split_into_words() {
    assert_eq!(words("PATIENCE"), ["patience"]);
    assert_eq!(words("dial_patience_ms"), ["dial", "patience", "ms"]);
    assert_eq!(words("HTTPDialPatience"), ["http", "dial", "patience"]);
    let declared = identifiers("x.ts", "const keeper = told; function f(a) {}");
    assert_eq!(declared.into_iter().collect::<Vec<_>>(), ["f", "keeper"]);
}
