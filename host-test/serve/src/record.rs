//! A recording that grows as the proxy runs: whole lines, appended, up to a bound.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use tollgate_host::offline::{Event, Output, Run};
use tollgate_host::recording::{Head, Record, Redaction};

/// Writes what comes to a proxy, and what it does.
pub struct Recorder {
    file: File,
    most_bytes: u64,
    bytes: u64,
    redaction: Redaction,
    /// Metrics as they were told last.
    metrics: BTreeMap<String, u64>,
}

/// Why nothing more is recorded.
#[derive(Debug)]
pub enum RecordingEnds {
    /// The file is as long as it may be.
    Full {
        /// The bound.
        most_bytes: u64,
    },
    /// It cannot be written.
    Unwritable(io::Error),
}

impl fmt::Display for RecordingEnds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { most_bytes } => {
                write!(f, "the recording has reached its {most_bytes} bytes, and ends here")
            }
            Self::Unwritable(error) => write!(f, "the recording cannot be written: {error}"),
        }
    }
}

impl Recorder {
    /// Begins a session in a file, behind those that are there.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened or written.
    pub fn append(file: &Path, most_bytes: u64, head: &Head) -> io::Result<Self> {
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(file)?;
        let mut bytes = file.metadata()?.len();
        if bytes > 0 {
            // The proxy before may have been killed in the midst of a line.
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                bytes += 1;
            }
        }
        let redaction = Redaction::new(head.redacted.clone());
        let mut recorder = Self { file, most_bytes, bytes, redaction, metrics: BTreeMap::new() };
        recorder.write_line(&head.line()).map_err(|error| match error {
            RecordingEnds::Unwritable(error) => error,
            full @ RecordingEnds::Full { .. } => io::Error::other(full.to_string()),
        })?;
        Ok(recorder)
    }

    /// Writes a record, with the metrics that changed if a stream is over.
    pub(crate) fn write(&mut self, mut record: Record, run: &Run) -> Result<(), RecordingEnds> {
        let is_over = |output: &Output| matches!(output, Output::Stream(_, Event::Over(_)));
        if record.outputs.iter().any(is_over) {
            let metrics = run.metrics();
            let changed =
                metrics.iter().filter(|&(name, value)| self.metrics.get(name) != Some(value));
            record.metrics = changed.map(|(name, value)| (name.clone(), *value)).collect();
            self.metrics = metrics;
        }
        self.redaction.apply(&mut record);
        self.write_line(&record.line())
    }

    fn write_line(&mut self, line: &str) -> Result<(), RecordingEnds> {
        let line = format!("{line}\n");
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        let bytes = self.bytes.saturating_add(length);
        if bytes > self.most_bytes {
            return Err(RecordingEnds::Full { most_bytes: self.most_bytes });
        }
        // In one piece: what was written is there, whatever becomes of the process.
        self.file.write_all(line.as_bytes()).map_err(RecordingEnds::Unwritable)?;
        self.bytes = bytes;
        Ok(())
    }
}
