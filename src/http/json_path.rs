//! Which field of a JSON text a position belongs to, for messages about it.

/// Most characters of a path.
const PATH_MAX: usize = 100;

/// An object or array that the position may be in.
struct Container<'a> {
    is_object: bool,
    /// Of an object: the key whose value is next.
    key: Option<&'a [u8]>,
    /// Of an array: the index of the value that is next.
    index: usize,
}

/// The path of the innermost value that contains a position, such as `target.port` or
/// `list[1]`; empty for the whole. The position is the parser's: a line, and a number of bytes
/// in it. A value contains the positions at its start and directly behind its end; a key belongs to
/// its object.
pub(super) fn path_at(text: &[u8], line: usize, column: usize) -> String {
    let start = match line {
        0 | 1 => 0,
        _ => text
            .iter()
            .enumerate()
            .filter(|(_, b)| **b == b'\n')
            .nth(line - 2)
            .map_or(0, |(at, _)| at + 1),
    };
    let position = start + column;
    let mut stack: Vec<Container<'_>> = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        if at > position {
            break;
        }
        match byte {
            b'{' | b'[' => {
                if at == position {
                    break;
                }
                stack.push(Container { is_object: byte == b'{', key: None, index: 0 });
                at += 1;
            }
            b'}' | b']' => {
                if let Some(ended) = stack.last_mut() {
                    ended.key = None;
                    // An array's path ends before its brackets.
                    ended.is_object = true;
                }
                if at + 1 >= position {
                    break;
                }
                stack.pop();
                at += 1;
            }
            b',' => {
                if let Some(container) = stack.last_mut() {
                    container.key = None;
                    container.index += 1;
                }
                at += 1;
            }
            b':' | b' ' | b'\t' | b'\r' | b'\n' => at += 1,
            b'"' => {
                let end = string_end(text, at);
                match stack.last_mut() {
                    Some(object) if object.is_object && object.key.is_none() => {
                        if end >= position {
                            break;
                        }
                        object.key = text.get(at + 1..end - 1);
                    }
                    Some(_) | None if end >= position => break,
                    Some(_) | None => {}
                }
                at = end;
            }
            _ => {
                let rest = text.get(at..).unwrap_or_default();
                let is_end = |b: &u8| matches!(b, b',' | b'}' | b']') || b.is_ascii_whitespace();
                let end = at + rest.iter().position(is_end).unwrap_or(rest.len());
                if end >= position {
                    break;
                }
                at = end.max(at + 1);
            }
        }
    }
    path_of(&stack)
}

/// The index behind a string's closing quote.
fn string_end(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len().max(start + 1)
}

fn path_of(stack: &[Container<'_>]) -> String {
    let mut path = String::new();
    for container in stack {
        if !container.is_object {
            path.push_str(&format!("[{}]", container.index));
        } else if let Some(key) = container.key {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(&String::from_utf8_lossy(key));
        }
    }
    path.chars().take(PATH_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn positions_have_paths() {
        let text = br#"{"a":1,"b":{"c":[true,"x"],"d":{}},"e":[[2]]}"#;
        for (position, path) in [
            (0, ""),
            (4, ""),
            (5, "a"),
            (6, "a"),
            (11, "b"),
            (15, "b"),
            (16, "b.c"),
            (17, "b.c[0]"),
            (21, "b.c[0]"),
            (22, "b.c[1]"),
            (25, "b.c[1]"),
            (26, "b.c"),
            (33, "b.d"),
            (34, "b"),
            (39, "e"),
            (40, "e[0]"),
            (41, "e[0][0]"),
            (43, "e[0]"),
            (44, "e"),
            (45, ""),
        ] {
            assert_eq!(path_at(text, 1, position), path, "{position}");
        }
        assert_eq!(path_at(b"{\n \"a\":\n 7}", 3, 2), "a");
    }

    proptest! {
        /// Any bytes and any position have an answer.
        #[test]
        fn it_ends(text in proptest::collection::vec(prop_oneof![Just(b'{'), Just(b'}'), Just(b'['), Just(b']'), Just(b'"'), Just(b'\\'), Just(b':'), Just(b','), Just(b'1'), Just(b'\n')], 0..40), line in 0usize..5, column in 0usize..60) {
            path_at(&text, line, column);
        }
    }
}
