//! Log lines.

use tollgate_abi::{Answer, LogLevel, Reply, Status};

use super::World;
use crate::proxy::LogLine;

impl World {
    pub(super) fn log(&mut self, level: LogLevel, message: &[u8]) -> Reply {
        if let LogLevel::Unknown(level) = level {
            return Reply::refused(Status::BadArgument, format!("{level} is not a log level"));
        }
        self.recent.logged(level, message);
        match self.write_log(level, message) {
            Ok(()) => Reply::OK,
            Err(trap) => trap,
        }
    }

    pub(super) fn current_log_level(&self) -> Reply {
        Reply::Done(Answer::U32(u32::from(self.log_level())))
    }

    pub(super) fn write_log(&mut self, level: LogLevel, message: &[u8]) -> Result<(), Reply> {
        if u32::from(level) >= u32::from(self.log_level()) {
            let line = LogLine { level, message: message.to_vec() };
            self.keep(kept(&line))?;
            self.logs.push(line);
        }
        Ok(())
    }

    /// Takes the lines, which are not kept any more.
    pub(crate) fn take_logs(&mut self) -> Vec<LogLine> {
        let logs = std::mem::take(&mut self.logs);
        self.let_go(logs.iter().map(kept).sum());
        logs
    }

    fn log_level(&self) -> LogLevel {
        self.log_level.unwrap_or(LogLevel::Info)
    }
}

/// How many bytes a line keeps.
fn kept(line: &LogLine) -> usize {
    line.message.len().saturating_add(size_of::<LogLine>())
}
