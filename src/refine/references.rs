use std::collections::BTreeMap;

use ahash::AHashSet;

use super::SqlFileError;

/// The reference lists that SQL may look values up in with `is_listed('name', value)`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    lists: BTreeMap<String, AHashSet<String>>,
}

impl References {
    /// Adds or replaces the list `name` by a CSV file: a header line, then one value a line in the first column.
    /// Further columns are commentary.
    ///
    /// # Errors
    /// When the text is not CSV or a line has no value.
    pub fn insert_csv(&mut self, name: &str, file: &str, text: &str) -> Result<(), SqlFileError> {
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
        let mut values = AHashSet::new();
        let mut record = csv::StringRecord::new();
        loop {
            let line = usize::try_from(reader.position().line()).unwrap_or(usize::MAX);
            match reader.read_record(&mut record) {
                Ok(false) => break,
                Ok(true) => {}
                Err(error) => return Err(SqlFileError::new(file, line, format!("not a CSV list: {error}"))),
            }
            match record.get(0).map(str::trim) {
                Some(value) if !value.is_empty() => values.insert(value.to_owned()),
                _ => return Err(SqlFileError::new(file, line, "the first column holds no value")),
            };
        }
        self.lists.insert(name.to_owned(), values);
        Ok(())
    }

    #[must_use]
    pub fn list(&self, name: &str) -> Option<&AHashSet<String>> {
        self.lists.get(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.lists.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::References;

    #[test]
    fn the_first_column_is_the_list() {
        let mut references = References::default();
        references.insert_csv("c", "c.csv", "country,why\nIran,a\n\"Korea, North\"\n").unwrap();
        let list = references.list("c").unwrap();
        assert_eq!(list.len(), 2);
        assert!(list.contains("Korea, North") && !list.contains("country"));
    }

    #[test]
    fn a_line_without_a_value_is_refused_with_its_line() {
        let error = References::default().insert_csv("c", "c.csv", "country\nIran\n ,x\n").unwrap_err();
        assert_eq!((error.file.as_str(), error.line), ("c.csv", 3));
    }
}
