//! What is wrong with a settings file, and where.

use std::fmt;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// From 1.
    pub(crate) line: usize,
    /// From 1, in characters.
    pub(crate) column: usize,
    /// What, and what to do about it. Never a secret.
    pub(crate) message: String,
}

impl Problem {
    /// A problem at a byte of the text.
    pub(super) fn at(text: &str, offset: usize, message: String) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message,
        }
    }
}

/// As editors and compilers write a place, so that a click leads there. The name of the file stands in front of it.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str, offset: usize) -> (usize, usize) {
        let problem = Problem::at(text, offset, String::new());
        (problem.line, problem.column)
    }

    #[test]
    fn lines_and_columns_count_from_one_and_in_characters() {
        assert_eq!(place("", 0), (1, 1));
        assert_eq!(place("ab\ncd", 1), (1, 2));
        assert_eq!(place("ab\ncd", 3), (2, 1));
        assert_eq!(place("é = ü", "é = ".len()), (1, 5));
    }

    #[test]
    fn a_place_beyond_the_text_or_inside_a_character_is_its_end() {
        assert_eq!(place("ab", 9), (1, 3));
        assert_eq!(place("é", 1), (1, 2));
    }
}
