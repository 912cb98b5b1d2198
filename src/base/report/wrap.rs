//! Lines of a given width.

/// Text in lines of at most `width` characters, broken at blanks; lines that go on are indented. A longer word is broken.
pub fn wrapped(text: &str, width: usize, indent: usize) -> String {
    let mut out: Vec<String> = Vec::new();
    for line in text.split('\n') {
        if line.chars().count() <= width {
            out.push(line.to_string());
            continue;
        }
        let blank = &line[..line.len() - line.trim_start().len()];
        let (mut now, mut length) = (blank.to_string(), blank.chars().count());
        let mut is_first = true;
        for word in line.split_whitespace() {
            let mut word: Vec<char> = word.chars().collect();
            if !is_first && length + 1 + word.len() > width {
                out.push(std::mem::replace(&mut now, " ".repeat(indent)));
                length = indent;
            } else if !is_first {
                now.push(' ');
                length += 1;
            }
            is_first = false;
            while length + word.len() > width && width > length {
                now.extend(word.drain(..width - length));
                out.push(std::mem::replace(&mut now, " ".repeat(indent)));
                length = indent;
            }
            length += word.len();
            now.extend(word);
        }
        out.push(now);
    }
    out.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_between_words() {
        assert_eq!(wrapped("one two three", 7, 0), "one two\nthree");
        assert_eq!(wrapped("- one two three", 9, 2), "- one two\n  three");
        assert_eq!(wrapped("short\n  kept  as it is", 40, 0), "short\n  kept  as it is");
        assert_eq!(wrapped("a longerthanthis b", 8, 0), "a\nlongerth\nanthis b");
        assert_eq!(wrapped("  at the begin", 8, 1), "  at the\n begin");
        assert_eq!(wrapped("", 5, 0), "");
    }
}
