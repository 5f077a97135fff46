//! A scanner of JSON text that builds no tree. It accepts what RFC 8259 does.

/// What is wrong with the text, and at which byte.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken {
    pub at: usize,
    pub what: &'static str,
}

/// The beginning of a value; scalars are complete.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Null,
    Boolean(bool),
    Number { text: &'a str, integer: bool },
    String(Text<'a>),
    Object,
    Array,
}

/// A string of the text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Text<'a> {
    Plain(&'a str),
    /// It had escapes: what it says is in the scanner's buffer until the next string is read.
    Unescaped,
}

/// Nested values are passed over without recursion; deeper ones are refused.
const DEPTH_MAX: u32 = 128;

pub(super) struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    unescaped: &'a mut String,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str, unescaped: &'a mut String) -> Self {
        Self { text, bytes: text.as_bytes(), at: 0, unescaped }
    }

    pub(super) const fn at(&self) -> usize {
        self.at
    }

    /// What the string says.
    pub(super) fn say<'b>(&'b self, text: &'b Text<'a>) -> &'b str {
        match text {
            Text::Plain(text) => text,
            Text::Unescaped => self.unescaped,
        }
    }

    /// Passes over white space and one expected byte, or says that it is not there.
    pub(super) fn eat(&mut self, expected: u8) -> bool {
        let found = self.peek() == Some(expected);
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect(&mut self, expected: u8, what: &'static str) -> Result<(), Broken> {
        if self.eat(expected) { Ok(()) } else { Err(self.broken(what)) }
    }

    /// Nothing but white space may be left.
    pub(super) fn end(&mut self) -> Result<(), Broken> {
        if self.peek().is_none() { Ok(()) } else { Err(self.broken("something follows the object")) }
    }

    pub(super) fn key(&mut self) -> Result<Text<'a>, Broken> {
        self.expect(b'"', "expected a name in quotes")?;
        let key = self.string()?;
        self.expect(b':', "expected `:`")?;
        Ok(key)
    }

    pub(super) fn value(&mut self) -> Result<Token<'a>, Broken> {
        let first = self.peek().ok_or_else(|| self.broken("the text ends where a value should be"))?;
        match first {
            b'"' => {
                self.at += 1;
                self.string().map(Token::String)
            }
            b'{' => {
                self.at += 1;
                Ok(Token::Object)
            }
            b'[' => {
                self.at += 1;
                Ok(Token::Array)
            }
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.literal("true", Token::Boolean(true)),
            b'f' => self.literal("false", Token::Boolean(false)),
            b'n' => self.literal("null", Token::Null),
            _ => Err(self.broken("not a value")),
        }
    }

    /// Passes over the rest of a value whose first token has been read.
    pub(super) fn skip_rest(&mut self, first: &Token<'_>) -> Result<(), Broken> {
        // One bit per open value, the innermost lowest: 1 for an object.
        let mut open: u128;
        let mut depth = 1;
        match first {
            Token::Object => open = 1,
            Token::Array => open = 0,
            _ => return Ok(()),
        }
        let mut empty = true;
        while depth > 0 {
            let object = open & 1 == 1;
            if self.eat(if object { b'}' } else { b']' }) {
                open >>= 1;
                depth -= 1;
                empty = false;
                continue;
            }
            if !empty {
                self.expect(b',', "expected `,` or the end of the value")?;
            }
            if object {
                self.key()?;
            }
            let token = self.value()?;
            empty = matches!(token, Token::Object | Token::Array);
            if empty {
                if depth == DEPTH_MAX {
                    return Err(self.broken("nested too deeply"));
                }
                depth += 1;
                open = open << 1 | u128::from(token == Token::Object);
            }
        }
        Ok(())
    }

    fn broken(&self, what: &'static str) -> Broken {
        Broken { at: self.at, what }
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.bytes.get(self.at)?;
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    fn literal(&mut self, word: &str, token: Token<'a>) -> Result<Token<'a>, Broken> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if !rest.starts_with(word.as_bytes()) {
            return Err(self.broken("not a value"));
        }
        self.at += word.len();
        Ok(token)
    }

    fn number(&mut self) -> Result<Token<'a>, Broken> {
        let start = self.at;
        self.at += usize::from(self.bytes.get(start) == Some(&b'-'));
        let leading = self.at;
        if self.digits()? > 1 && self.bytes.get(leading) == Some(&b'0') {
            return Err(Broken { at: leading, what: "a number with a leading zero" });
        }
        let mut integer = true;
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
            integer = false;
        }
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.bytes.get(self.at), Some(b'+' | b'-')));
            self.digits()?;
            integer = false;
        }
        Ok(Token::Number { text: self.slice(start, self.at), integer })
    }

    fn digits(&mut self) -> Result<usize, Broken> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if count == 0 {
            return Err(self.broken("expected a digit"));
        }
        self.at += count;
        Ok(count)
    }

    /// The rest of a string after its opening quote.
    fn string(&mut self) -> Result<Text<'a>, Broken> {
        let start = self.at;
        self.at += plain_length(self.bytes.get(start..).unwrap_or_default());
        if self.bytes.get(self.at) == Some(&b'"') {
            self.at += 1;
            return Ok(Text::Plain(self.slice(start, self.at - 1)));
        }
        self.unescaped.clear();
        let mut from = start;
        loop {
            let plain = self.slice(from, self.at);
            self.unescaped.push_str(plain);
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Text::Unescaped);
                }
                Some(b'\\') => {
                    self.at += 1;
                    let c = self.escape()?;
                    self.unescaped.push(c);
                }
                Some(_) => return Err(self.broken("a control character in a string")),
                None => return Err(self.broken("the text ends in a string")),
            }
            from = self.at;
            self.at += plain_length(self.bytes.get(from..).unwrap_or_default());
        }
    }

    fn escape(&mut self) -> Result<char, Broken> {
        let c = match self.bytes.get(self.at) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode_escape();
            }
            _ => return Err(self.broken("not an escape")),
        };
        self.at += 1;
        Ok(c)
    }

    fn unicode_escape(&mut self) -> Result<char, Broken> {
        let start = self.at;
        let lone = Broken { at: start, what: "half of a surrogate pair" };
        let first = self.hex4()?;
        let code = match first {
            0xd800..=0xdbff => {
                if !self.bytes.get(self.at..).unwrap_or_default().starts_with(b"\\u") {
                    return Err(lone);
                }
                self.at += 2;
                match self.hex4()? {
                    second @ 0xdc00..=0xdfff => 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00),
                    _ => return Err(lone),
                }
            }
            other => other,
        };
        char::from_u32(code).ok_or(lone)
    }

    fn hex4(&mut self) -> Result<u32, Broken> {
        let digits = self.bytes.get(self.at..self.at + 4).unwrap_or_default();
        if digits.len() < 4 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(self.broken("expected four hexadecimal digits"));
        }
        self.at += 4;
        let value = |byte: u8| char::from(byte).to_digit(16).unwrap_or_default();
        Ok(digits.iter().fold(0, |code, byte| code << 4 | value(*byte)))
    }

    /// Both ends stand on ASCII bytes, so the slice is always whole characters.
    fn slice(&self, start: usize, end: usize) -> &'a str {
        self.text.get(start..end).unwrap_or_default()
    }
}

/// How many bytes come before the first quote, backslash or control character, eight at a time.
fn plain_length(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
    let zero_in = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        // The lowest byte is the first; a false hit can only stand above a true one.
        let word = u64::from_le_bytes(*word);
        let quote = zero_in(word ^ (ONES * u64::from(b'"')));
        let backslash = zero_in(word ^ (ONES * u64::from(b'\\')));
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let hits = quote | backslash | control;
        if hits != 0 {
            return index * 8 + hits.trailing_zeros() as usize / 8;
        }
    }
    let ends = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
    words.len() * 8 + rest.iter().position(ends).unwrap_or(rest.len())
}
