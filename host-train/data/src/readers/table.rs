//! Tables that come with data sets: CSV whose columns are found by name, and rows that are known by their line.

use crate::dataset::DatasetError;
use std::path::{Path, PathBuf};

/// A CSV file, row by row.
pub(crate) struct Table {
    path: PathBuf,
    names: Vec<String>,
    records: csv::StringRecordsIntoIter<std::fs::File>,
}

/// A row of a table.
pub(crate) struct Row {
    record: csv::StringRecord,
    /// Its line in the file, from 1.
    pub line: u64,
}

impl Row {
    /// The value in column number `column`.
    pub fn get(&self, column: usize) -> &str {
        self.record.get(column).unwrap_or_default().trim()
    }

    /// The value in a column that may not be there.
    pub fn get_if(&self, column: Option<usize>) -> &str {
        column.map_or("", |column| self.get(column))
    }
}

impl Table {
    /// Opens `path` and reads its head.
    pub fn open(path: &Path) -> Result<Table, DatasetError> {
        let refuse = |reason: String| DatasetError::Table { path: path.to_owned(), reason };
        let bad = |e: csv::Error| refuse(e.to_string());
        // The parser takes an open quotation to the end of the file for one value.
        let bytes = std::fs::read(path).map_err(|source| DatasetError::Io { path: path.to_owned(), source })?;
        if bytes.iter().filter(|byte| **byte == b'"').count() % 2 == 1 {
            return Err(refuse("a quotation mark is opened and never closed".into()));
        }
        let mut reader = csv::ReaderBuilder::new().from_path(path).map_err(bad)?;
        let head = reader.headers().map_err(bad)?;
        // Spreadsheets put a byte order mark in front of the first name.
        let names = head.iter().map(|name| name.trim_start_matches('\u{feff}').trim().to_owned()).collect();
        let table = Table { path: path.to_owned(), names, records: reader.into_records() };
        let twice = |(i, name): &(usize, &String)| !name.is_empty() && table.find(name).is_some_and(|first| first < *i);
        if let Some((_, name)) = table.names.iter().enumerate().find(twice) {
            return Err(refuse(format!("line 1: there are two columns `{name}`")));
        }
        if let [only] = table.names.as_slice()
            && let Some(separator) = [';', '\t'].into_iter().find(|separator| only.contains(*separator))
        {
            let words = format!("line 1: columns are separated by {separator:?}: save the table with commas");
            return Err(refuse(words));
        }
        Ok(table)
    }

    /// Names of the columns.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The number of column `name`, if it is there.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|column| column.eq_ignore_ascii_case(name))
    }

    /// The number of column `name`.
    pub fn column(&self, name: &str) -> Result<usize, DatasetError> {
        self.find(name).ok_or_else(|| DatasetError::Table {
            path: self.path.clone(),
            reason: format!("line 1: the column `{name}` is missing; there are {}", self.names.join(", ")),
        })
    }

    /// The next row.
    pub fn next(&mut self) -> Result<Option<Row>, DatasetError> {
        match self.records.next() {
            None => Ok(None),
            Some(Ok(record)) => {
                let line = record.position().map_or(0, csv::Position::line);
                Ok(Some(Row { record, line }))
            }
            Some(Err(e)) => Err(DatasetError::Table { path: self.path.clone(), reason: e.to_string() }),
        }
    }

    /// What is wrong in `row`.
    pub fn error(&self, row: &Row, reason: String) -> DatasetError {
        DatasetError::Table { path: self.path.clone(), reason: format!("line {}: {reason}", row.line) }
    }
}
