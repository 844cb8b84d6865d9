//! The words of an API stay in its module: what the broker is asked is typed.

use super::graph::{Token, tokens};
use super::{files, shown};
use std::collections::BTreeSet;
use std::fs;

/// Fields of queries and filters that are text: what is sought in texts, ids as they were audited,
/// and cursors, which are opaque. All other filters are types of the domain.
const TEXTS: &[&str] = &["cursor", "method", "path", "q", "session_id", "workspace_id"];

/// Structs whose name ends so, each with the fields whose type has text.
fn texts_of_queries(source: &str) -> Vec<(String, String)> {
    let tokens = tokens(source);
    let mut found = Vec::new();
    let word = |token: Option<&Token>| match token {
        Some(Token::Word(word)) => Some(word.clone()),
        _ => None,
    };
    for at in 0..tokens.len() {
        if word(tokens.get(at)).as_deref() != Some("struct") {
            continue;
        }
        let Some(name) = word(tokens.get(at + 1)) else { continue };
        if !["Query", "Filter"].iter().any(|ending| name.ends_with(ending)) {
            continue;
        }
        let body = tokens[at..].iter().skip_while(|token| **token != Token::Other('{'));
        let body: Vec<&Token> =
            body.skip(1).take_while(|token| **token != Token::Other('}')).collect();
        let mut field = None;
        for pair in body.windows(2) {
            match pair {
                [Token::Word(word), Token::Other(':')] => field = Some(word.clone()),
                [_, Token::Word(word)] if ["String", "str"].contains(&word.as_str()) => {
                    found.extend(field.clone().map(|field| (name.clone(), field)));
                }
                _ => {}
            }
        }
    }
    found
}

#[test]
fn queries_have_no_words_of_an_api() {
    let mut wrong = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for path in ["src/domain", "src/store", "src/broker"].iter().flat_map(|dir| files(dir, ".rs")) {
        for (name, field) in texts_of_queries(&fs::read_to_string(&path).unwrap()) {
            if !TEXTS.contains(&field.as_str()) {
                wrong.insert(format!("{}: {name}.{field}", shown(&path)));
            }
            seen.insert(field);
        }
    }
    assert!(wrong.is_empty(), "give the field a type, parse it in the API:\n{wrong:#?}");
    assert!(TEXTS.iter().all(|field| seen.contains(*field)), "only {seen:?} occur");
}

#[test]
fn the_broker_reads_no_wire_format() {
    let reading: Vec<String> = files("src/broker/model", ".rs")
        .iter()
        .filter(|path| fs::read_to_string(path).unwrap().contains("serde"))
        .map(|path| shown(path))
        .collect();
    assert!(
        reading.is_empty(),
        "inputs of use cases are made by APIs, not deserialized: {reading:?}"
    );
}

#[test]
fn texts_of_queries_are_found() {
    let source = "pub struct AQuery<'a> { /// `x: String`\n pub a: Option<&'a str>, pub b: Option<B> } \
        struct BFilter { c: Vec<String>, #[doc = \"d\"] e: u8 } struct Other { f: String }";
    let found = texts_of_queries(source);
    let expected = [("AQuery", "a"), ("BFilter", "c")];
    assert_eq!(found, expected.map(|(name, field)| (name.to_owned(), field.to_owned())));
}
