//! Follows the bytes of an HTTP/1.1 request head that is too large to be parsed: whether it is
//! complete, how much of it are cookies, and whether its sender accepts HTML.

/// Bytes of a line that are kept: enough for a field's name and what is looked for in its value.
const LINE_MAX: usize = 256;

/// Follows one head; [`Self::restart`] for the next.
#[derive(Debug, Default)]
pub(super) struct RequestHeadScanner {
    /// The start of the present line.
    line: Vec<u8>,
    line_length: usize,
    any_line: bool,
    cookie_bytes: usize,
    accepts_html: bool,
    is_complete: bool,
}

impl RequestHeadScanner {
    pub(super) fn restart(&mut self) {
        let mut line = std::mem::take(&mut self.line);
        line.clear();
        *self = Self { line, ..Self::default() };
    }

    /// The next bytes; what follows the head is ignored.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !self.is_complete && !rest.is_empty() {
            let (part, is_end) = match rest.iter().position(|b| *b == b'\n') {
                Some(at) => (&rest[..at], true),
                None => (rest, false),
            };
            let free = LINE_MAX.saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(free)]);
            self.line_length += part.len();
            if is_end {
                self.end_line();
            }
            rest = rest.get(part.len() + 1..).unwrap_or_default();
        }
    }

    fn end_line(&mut self) {
        let line = self.line.trim_ascii_end();
        if line.is_empty() {
            // Empty lines before the request line are skipped (RFC 9112 section 2.2).
            self.is_complete = self.any_line;
        } else {
            self.any_line = true;
            self.cookie_bytes += cookie_bytes(line, self.line_length);
            self.accepts_html |= field_is(line, b"accept:")
                && line.windows(9).any(|word| word.eq_ignore_ascii_case(b"text/html"));
        }
        self.line.clear();
        self.line_length = 0;
    }

    /// Whether the empty line that ends the head was there.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Bytes of the `Cookie` fields so far.
    pub(super) fn cookie_bytes(&self) -> usize {
        self.cookie_bytes + cookie_bytes(&self.line, self.line_length)
    }

    pub(super) fn accepts_html(&self) -> bool {
        self.accepts_html
    }
}

fn field_is(line: &[u8], name: &[u8]) -> bool {
    line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
}

fn cookie_bytes(line: &[u8], length: usize) -> usize {
    if field_is(line, b"cookie:") { length } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_counted_however_the_bytes_arrive() {
        let head = format!(
            "\r\nGET / HTTP/1.1\r\nHost: x\r\nAccept: text/html,*/*\r\ncookie: a={}\r\nX: y\r\nCookie: b=1\r\n\r\nCookie: body\r\n",
            "v".repeat(1000)
        );
        for size in [1, 7, 300, head.len()] {
            let mut scanner = RequestHeadScanner::default();
            for part in head.as_bytes().chunks(size) {
                scanner.feed(part);
            }
            assert!(scanner.is_complete() && scanner.accepts_html(), "{size}");
            assert_eq!(scanner.cookie_bytes(), "cookie: a=\r".len() + 1000 + "Cookie: b=1\r".len());
            scanner.restart();
            assert!(
                !scanner.is_complete() && !scanner.accepts_html() && scanner.cookie_bytes() == 0
            );
        }
    }

    #[test]
    fn an_unfinished_cookie_counts() {
        let mut scanner = RequestHeadScanner::default();
        scanner.feed(b"GET / HTTP/1.1\r\nCookie: ");
        scanner.feed(&[b'x'; 5000]);
        assert_eq!((scanner.is_complete(), scanner.cookie_bytes()), (false, 5008));
    }
}
