//! Python literals, as they stand in the metadata of Ultralytics models and in the headers of .npy files.

use compresso_base::error::{Error, Result};

/// A Python literal.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    /// A list or a tuple.
    List(Vec<Self>),
    Dict(Vec<(Self, Self)>),
}

impl Literal {
    /// Parses one literal, with nothing after it but blanks. JSON's `true`, `false` and `null` are read too.
    ///
    /// # Errors
    /// `Format`, with the position.
    pub fn parse(text: &str) -> Result<Self> {
        let mut parser = Parser { text, at: 0 };
        let value = parser.value(0)?;
        parser.blanks();
        if parser.at < text.len() {
            return Err(parser.error("expected the end"));
        }
        Ok(value)
    }
    /// The value of a text key of a dict.
    pub fn get(&self, key: &str) -> Option<&Self> {
        let Self::Dict(entries) = self else { return None };
        entries.iter().find(|(k, _)| matches!(k, Self::Text(t) if t == key)).map(|(_, v)| v)
    }
    pub fn int(&self) -> Option<i64> {
        if let Self::Int(i) = self { Some(*i) } else { None }
    }
    pub fn text(&self) -> Option<&str> {
        if let Self::Text(t) = self { Some(t) } else { None }
    }
}

/// Deeper literals are refused.
const MAX_DEPTH: usize = 16;

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn error(&self, what: &str) -> Error {
        Error::format(format!("{what} at character {} of a Python literal", self.at))
    }
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }
    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }
    fn blanks(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }
    fn eat(&mut self, c: char) -> bool {
        self.blanks();
        let found = self.rest().starts_with(c);
        self.at += if found { c.len_utf8() } else { 0 };
        found
    }
    fn value(&mut self, depth: usize) -> Result<Literal> {
        if depth > MAX_DEPTH {
            return Err(self.error("nested too deeply"));
        }
        self.blanks();
        match self.peek() {
            Some('{') => self.dict(depth),
            Some('[') => self.list(']', depth),
            Some('(') => self.list(')', depth),
            Some(quote @ ('\'' | '"')) => self.quoted(quote).map(Literal::Text),
            Some(c) if c.is_ascii_digit() || matches!(c, '-' | '+' | '.') => self.number(),
            _ => self.word(),
        }
    }
    fn dict(&mut self, depth: usize) -> Result<Literal> {
        self.at += 1;
        let mut entries = Vec::new();
        while !self.eat('}') {
            let key = self.value(depth + 1)?;
            if !self.eat(':') {
                return Err(self.error("expected ':'"));
            }
            entries.push((key, self.value(depth + 1)?));
            if !self.eat(',') {
                if self.eat('}') {
                    break;
                }
                return Err(self.error("expected ',' or '}'"));
            }
        }
        Ok(Literal::Dict(entries))
    }
    fn list(&mut self, close: char, depth: usize) -> Result<Literal> {
        self.at += 1;
        let mut items = Vec::new();
        while !self.eat(close) {
            items.push(self.value(depth + 1)?);
            if !self.eat(',') {
                if self.eat(close) {
                    break;
                }
                return Err(self.error("expected ',' or the closing bracket"));
            }
        }
        Ok(Literal::List(items))
    }
    fn quoted(&mut self, quote: char) -> Result<String> {
        self.at += 1;
        let mut out = String::new();
        while let Some(c) = self.peek() {
            self.at += c.len_utf8();
            match c {
                c if c == quote => return Ok(out),
                '\\' => {
                    let Some(e) = self.peek() else { break };
                    self.at += e.len_utf8();
                    match e {
                        'n' => out.push('\n'),
                        't' => out.push('\t'),
                        'r' => out.push('\r'),
                        'x' => out.push(self.code(2)?),
                        'u' => out.push(self.code(4)?),
                        'U' => out.push(self.code(8)?),
                        '\\' | '\'' | '"' => out.push(e),
                        other => out.extend(['\\', other]),
                    }
                }
                c => out.push(c),
            }
        }
        Err(self.error("the text is not closed"))
    }
    fn code(&mut self, digits: usize) -> Result<char> {
        let code = self.rest().get(..digits).and_then(|d| u32::from_str_radix(d, 16).ok()).and_then(char::from_u32);
        let c = code.ok_or_else(|| self.error("a bad escape"))?;
        self.at += digits;
        Ok(c)
    }
    fn number(&mut self) -> Result<Literal> {
        let end = self.rest().find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.' | '_')));
        let word = self.rest()[..end.unwrap_or(self.rest().len())].replace('_', "");
        // Python 2 wrote long integers with an L.
        let value = match word.trim_end_matches('L').parse::<i64>() {
            Ok(i) => Literal::Int(i),
            Err(_) => Literal::Float(word.parse().map_err(|_| self.error("a bad number"))?),
        };
        self.at += end.unwrap_or(self.rest().len());
        Ok(value)
    }
    fn word(&mut self) -> Result<Literal> {
        let end = self.rest().find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(self.rest().len());
        let value = match &self.rest()[..end] {
            "None" | "null" => Literal::None,
            "True" | "true" => Literal::Bool(true),
            "False" | "false" => Literal::Bool(false),
            "" => return Err(self.error("expected a value")),
            _ => return Err(self.error("an unknown word")),
        };
        self.at += end;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dicts_lists_and_escapes() {
        let v = Literal::parse(r#"{0: 'RBC', 1: "it's", 2: 'a\'b\u00e9', } "#).unwrap();
        let Literal::Dict(d) = v else { panic!("a dict") };
        assert_eq!(d[1], (Literal::Int(1), Literal::Text("it's".into())));
        assert_eq!(d[2].1.text(), Some("a'bé"));
        assert_eq!(Literal::parse("[320, -1.5e3, None, True, ()]").unwrap(), {
            use Literal::{Bool, Float, Int, List, None};
            List(vec![Int(320), Float(-1500.0), None, Bool(true), List(vec![])])
        });
    }

    #[test]
    fn nonsense_is_an_error() {
        for text in ["", "{", "{0 'a'}", "[1", "'abc", "__import__('os')", "1 2", "'\\x4'", "--", &"[".repeat(100)] {
            assert!(Literal::parse(text).is_err(), "{text}");
        }
    }
}
