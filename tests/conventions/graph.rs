//! Which file uses which: read from `use` statements and paths, without the unit tests.

use super::{files, shown};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// Path of a module: `["broker", "live"]`.
type Module = Vec<String>;

/// Files under `src`, as their paths, with the files that each uses.
pub struct Graph {
    pub uses: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    /// Reads every file under `src`.
    pub fn read() -> Self {
        let sources: Vec<(String, String)> = files("src", ".rs")
            .iter()
            .map(|path| (shown(path), fs::read_to_string(path).unwrap()))
            .collect();
        Self::of(&sources)
    }

    /// Of paths and texts.
    pub fn of(sources: &[(String, String)]) -> Self {
        let mut tests = BTreeSet::new();
        let mut code = BTreeMap::new();
        for (path, text) in sources {
            let (tokens, test_modules) = without_tests(tokens(text));
            for name in test_modules {
                let mut module = module_of(path);
                module.push(name);
                tests.insert(module);
            }
            code.insert(path.clone(), tokens);
        }
        code.retain(|path, _| !tests.iter().any(|test| module_of(path).starts_with(test)));
        let modules: BTreeMap<Module, String> =
            code.keys().map(|path| (module_of(path), path.clone())).collect();
        let uses = code
            .iter()
            .map(|(path, tokens)| {
                let module = module_of(path);
                let used = paths(tokens)
                    .into_iter()
                    .filter_map(|path| resolve(&module, path, &modules))
                    .filter(|used| used != path)
                    .collect();
                (path.clone(), used)
            })
            .collect();
        Self { uses }
    }

    /// Sets of files that use each other, directly or through others; files of different top-level
    /// modules are not looked at together.
    pub fn circles(&self) -> Vec<Vec<&str>> {
        let reachable: BTreeMap<&str, BTreeSet<&str>> =
            self.uses.keys().map(|from| (from.as_str(), self.reachable(from))).collect();
        let mut circles: Vec<Vec<&str>> = Vec::new();
        for from in self.uses.keys() {
            if circles.iter().any(|circle| circle.contains(&from.as_str())) {
                continue;
            }
            let circle: Vec<&str> = reachable[from.as_str()]
                .iter()
                .copied()
                .filter(|to| reachable[to].contains(from.as_str()))
                .collect();
            if circle.len() > 1 {
                circles.push(circle);
            }
        }
        circles
    }

    fn reachable(&self, from: &str) -> BTreeSet<&str> {
        let (mut found, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(path) = next.pop() {
            for to in self.uses.get(path).into_iter().flatten() {
                if top(to) == top(from) && found.insert(to.as_str()) {
                    next.push(to);
                }
            }
        }
        found
    }
}

/// The module of a file: `src/broker/live.rs` is `broker::live`, `src/broker/mod.rs` is `broker`.
pub fn module_of(path: &str) -> Module {
    let inner = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    inner.split('/').map(str::to_owned).collect()
}

/// The top-level module of a file.
pub fn top(path: &str) -> &str {
    path.trim_start_matches("src/").split(['/', '.']).next().unwrap()
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Token {
    Word(String),
    /// `::`
    Separator,
    Other(char),
}

/// The words and signs of a text, without comments, strings and character literals.
pub fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let chars: Vec<char> = text.chars().collect();
    let mut at = 0;
    while at < chars.len() {
        let c = chars[at];
        let next = chars.get(at + 1).copied();
        if c == '/' && next == Some('/') {
            at += chars[at..].iter().take_while(|c| **c != '\n').count();
        } else if c == '/' && next == Some('*') {
            at += 2;
            while at < chars.len() && !(chars[at] == '*' && chars.get(at + 1) == Some(&'/')) {
                at += 1;
            }
            at += 2;
        } else if c == 'r' && matches!(next, Some('"' | '#')) && raw_string(&chars[at..]).is_some()
        {
            at += raw_string(&chars[at..]).unwrap();
        } else if c == '"' {
            at += 1;
            while at < chars.len() && chars[at] != '"' {
                at += if chars[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
        } else if c == '\'' {
            // A character literal ends with a quote after one or an escaped character; a lifetime
            // does not.
            let end = if next == Some('\\') {
                chars[at + 3..].iter().position(|c| *c == '\'').map(|n| at + 4 + n)
            } else {
                (chars.get(at + 2) == Some(&'\'')).then_some(at + 3)
            };
            at = end.unwrap_or(at + 1);
        } else if c.is_alphanumeric() || c == '_' {
            let word: String =
                chars[at..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').collect();
            at += word.chars().count();
            tokens.push(Token::Word(word));
        } else if c == ':' && next == Some(':') {
            tokens.push(Token::Separator);
            at += 2;
        } else {
            if !c.is_whitespace() {
                tokens.push(Token::Other(c));
            }
            at += 1;
        }
    }
    tokens
}

/// The length of a raw string that begins here.
fn raw_string(chars: &[char]) -> Option<usize> {
    let hashes = chars[1..].iter().take_while(|c| **c == '#').count();
    if chars.get(1 + hashes) != Some(&'"') {
        return None;
    }
    let mut at = 2 + hashes;
    loop {
        let closes = chars.get(at)? == &'"'
            && chars[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
        if closes {
            return Some(at + 1 + hashes);
        }
        at += 1;
    }
}

/// Without what `#[cfg(test)]` marks; the names of test modules that are files.
fn without_tests(tokens: Vec<Token>) -> (Vec<Token>, Vec<String>) {
    let word = |text: &str| Token::Word(text.to_owned());
    let mark = [
        Token::Other('#'),
        Token::Other('['),
        word("cfg"),
        Token::Other('('),
        word("test"),
        Token::Other(')'),
        Token::Other(']'),
    ];
    let (mut kept, mut files) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        if !tokens[at..].starts_with(&mark) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        at += mark.len();
        let mut depth = 0_usize;
        let item = &tokens[at..];
        let end = item.iter().position(|token| {
            match token {
                Token::Other('{') => depth += 1,
                Token::Other('}') => depth -= 1,
                _ => {}
            }
            depth == 0 && matches!(token, Token::Other(';' | '}'))
        });
        let item = &item[..=end.expect("an item after cfg(test)")];
        if let [.., Token::Word(module), Token::Word(name), Token::Other(';')] = item
            && module == "mod"
        {
            files.push(name.clone());
        }
        at += item.len();
    }
    (kept, files)
}

fn visibility() -> [Token; 3] {
    [Token::Word("pub".to_owned()), Token::Other('('), Token::Word("in".to_owned())]
}

/// Every path of at least two parts, and every path that is imported.
fn paths(tokens: &[Token]) -> Vec<Module> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let Token::Word(word) = &tokens[at] else {
            at += 1;
            continue;
        };
        let before = at.checked_sub(1).map(|at| &tokens[at]);
        // `pub(in crate::a)` says who may use an item, and uses nothing.
        if word == "in" && before == Some(&Token::Other('(')) {
            at += tokens[at..].iter().position(|token| *token == Token::Other(')')).unwrap_or(1);
            continue;
        }
        if word == "use" && before != Some(&Token::Other('.')) {
            at += 1 + use_tree(&tokens[at + 1..], &[], &mut found);
        } else if before == Some(&Token::Separator) || is_visibility(&tokens[..at]) {
            at += 1;
        } else if tokens[..at].ends_with(&visibility()) {
            // `pub(in crate::a)` says who may use this, not what it uses.
            at += tokens[at..].iter().take_while(|token| **token != Token::Other(')')).count();
        } else {
            let mut path = vec![word.clone()];
            at += 1;
            while let [Token::Separator, Token::Word(part), ..] = &tokens[at..] {
                path.push(part.clone());
                at += 2;
            }
            if path.len() > 1 {
                found.push(path);
            }
        }
    }
    found
}

/// Whether a path that begins here is that of `pub(in path)`, which uses nothing.
fn is_visibility(before: &[Token]) -> bool {
    let word = |text: &str| Token::Word(text.to_owned());
    before.ends_with(&[word("pub"), Token::Other('('), word("in")])
}

/// Reads one tree of a `use` statement; the number of its tokens.
fn use_tree(tokens: &[Token], prefix: &[String], found: &mut Vec<Module>) -> usize {
    let mut path = prefix.to_vec();
    let mut at = 0;
    loop {
        match tokens.get(at) {
            Some(Token::Word(word)) if word == "as" => {
                found.push(path);
                // The new name, or an underscore.
                return at + 2;
            }
            Some(Token::Word(word)) => path.push(word.clone()),
            Some(Token::Separator) => {}
            Some(Token::Other('{')) => {
                at += 1;
                while !matches!(tokens.get(at), Some(Token::Other('}')) | None) {
                    if tokens[at] == Token::Other(',') {
                        at += 1;
                    } else {
                        at += use_tree(&tokens[at..], &path, found);
                    }
                }
                return at + 1;
            }
            Some(Token::Other('*')) => {}
            _ => {
                found.push(path);
                return at;
            }
        }
        at += 1;
    }
}

/// The file in which a path of a module ends, or `src/NAME` of another top-level module.
fn resolve(module: &Module, path: Module, modules: &BTreeMap<Module, String>) -> Option<String> {
    let mut rest = path.into_iter().peekable();
    let mut target = match rest.peek().map(String::as_str)? {
        "crate" => {
            rest.next();
            Module::new()
        }
        "self" | "super" => module.clone(),
        first => {
            let mut child = module.clone();
            child.push(first.to_owned());
            if !modules.contains_key(&child) {
                return None;
            }
            module.clone()
        }
    };
    while let Some(part) = rest.next_if(|part| part == "self" || part == "super") {
        if part == "super" {
            target.pop();
        }
    }
    for part in rest {
        target.push(part);
        if !modules.contains_key(&target) {
            target.pop();
            break;
        }
    }
    modules.get(&target).cloned()
}

#[test]
fn uses_are_read_from_imports_and_paths() {
    let source = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let graph = Graph::of(&[
        source(
            "src/a/mod.rs",
            "pub mod b; mod c; pub(in crate::q) fn p() {} #[cfg(test)] mod t; pub use b::B as Other;",
        ),
        source(
            "src/a/b.rs",
            "use super::{self, c::{C, d}}; pub(in crate::z) fn x() { y('{', \"crate::z\", r#\"\"crate::z\"#) } // crate::z",
        ),
        source(
            "src/a/c.rs",
            "use crate::{z::Z, domain};\n#[cfg(test)] mod tests { use super::super::b; }",
        ),
        source("src/a/t.rs", "use crate::q::Q;"),
        source("src/z.rs", "fn f<'a>() { crate::a::c::C::new() }"),
        source("src/q.rs", "pub(in crate::a) struct Q;"),
    ]);
    let uses = |path: &str| graph.uses[path].iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(uses("src/a/mod.rs"), ["src/a/b.rs"]);
    assert_eq!(uses("src/a/b.rs"), ["src/a/c.rs", "src/a/mod.rs"]);
    assert_eq!(uses("src/a/c.rs"), ["src/z.rs"]);
    assert_eq!(uses("src/z.rs"), ["src/a/c.rs"]);
    assert_eq!(uses("src/q.rs"), [""; 0]);
    assert!(!graph.uses.contains_key("src/a/t.rs"), "test modules are not looked at");
    assert_eq!(graph.circles(), [["src/a/b.rs", "src/a/mod.rs"]]);
}
