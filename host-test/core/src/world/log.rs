//! Log lines.

use tollgate_abi::{Answer, LogLevel, Reply, Status};

use super::World;
use crate::proxy::LogLine;

impl World {
    pub(super) fn log(&mut self, level: LogLevel, message: &[u8]) -> Reply {
        if let LogLevel::Unknown(level) = level {
            return Reply::refused(Status::BadArgument, format!("{level} is not a log level"));
        }
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
            self.keep(message.len().saturating_add(size_of::<LogLine>()))?;
            self.logs.push(LogLine { level, message: message.to_vec() });
        }
        Ok(())
    }

    fn log_level(&self) -> LogLevel {
        self.log_level.unwrap_or(LogLevel::Info)
    }
}
