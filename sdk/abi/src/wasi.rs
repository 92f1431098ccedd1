//! Functions of WASI that a proxy has only so that modules load: there are no files, no sockets and no
//! events.
//!
//! The functions of WASI that do something stand in the table of host functions. `path_link` and
//! `path_symlink` have fewer words than in WASI, as on Envoy, which loads no module that imports them as
//! they should be. `proc_raise` is missing on purpose: Envoy does not have it.

/// A function of WASI that only answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stub {
    name: &'static str,
    /// A letter per word: `i` has 32 bits, `I` has 64.
    words: &'static str,
    open: Open,
    errno: u32,
    /// Which bytes go where: to the address in the word at a place.
    written: &'static [(usize, &'static [u8])],
}

/// For which files a stub has its answer; for all others it is that they are not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    /// For all, or it is not asked about one.
    All,
    /// For the streams of the log, 1 and 2.
    Log,
}

/// `errno` of WASI preview 1.
const SUCCESS: u32 = 0;
const BADF: u32 = 8;
const FAULT: u32 = 21;
const NOTDIR: u32 = 20;
const NOENT: u32 = 44;
const NOSYS: u32 = 52;
const NOTSUP: u32 = 58;

/// A `fdstat` that allows nothing but to write.
const WRITES_ONLY: [u8; 24] = {
    let mut fdstat = [0; 24];
    fdstat[8] = 64;
    fdstat
};

impl Stub {
    /// Every stub.
    ///
    /// Source: proxy-wasm-cpp-host, `exports.cc`; each number was seen on Envoy 1.40.
    pub const ALL: &'static [Self] = &[
        Self::always("fd_advise", "iIIi", SUCCESS),
        Self::of_log("fd_allocate", "iII"),
        Self::always("fd_close", "i", SUCCESS),
        Self::of_log("fd_datasync", "i"),
        Self::of_log("fd_fdstat_get", "ii").writing(&[(1, &WRITES_ONLY)]),
        Self::always("fd_fdstat_set_flags", "ii", NOSYS),
        Self::of_log("fd_fdstat_set_rights", "iII"),
        Self::always("fd_filestat_get", "ii", BADF),
        Self::of_log("fd_filestat_set_size", "iI"),
        Self::of_log("fd_filestat_set_times", "iIIi"),
        Self::always("fd_pread", "iiiIi", NOSYS),
        Self::always("fd_prestat_dir_name", "iii", NOSYS),
        Self::always("fd_prestat_get", "ii", BADF),
        Self::always("fd_read", "iiii", NOSYS),
        Self::always("fd_readdir", "iiiIi", NOTDIR).writing(&[(4, &[0; 4])]),
        Self::always("fd_renumber", "ii", BADF),
        Self::always("fd_seek", "iIii", SUCCESS),
        Self::of_log("fd_sync", "i"),
        Self::of_log("fd_tell", "ii").writing(&[(1, &[0; 8])]),
        Self::always("path_create_directory", "iii", NOTSUP),
        Self::always("path_filestat_get", "iiiii", NOTSUP),
        Self::always("path_filestat_set_times", "iiiiIIi", NOTSUP),
        Self::always("path_link", "iiiiii", NOTSUP),
        Self::always("path_open", "iiiiiIIii", NOENT),
        Self::always("path_readlink", "iiiiii", NOTSUP).writing(&[(5, &[0; 4])]),
        Self::always("path_remove_directory", "iii", NOTSUP),
        Self::always("path_rename", "iiiiii", NOTSUP),
        Self::always("path_symlink", "iiii", NOTSUP),
        Self::always("path_unlink_file", "iii", NOTSUP),
        Self::always("poll_oneoff", "iiii", SUCCESS).writing(&[(3, &[0; 4])]),
        Self::always("sched_yield", "", SUCCESS),
        Self::always("sock_accept", "iii", NOTSUP).writing(&[(2, &[0; 8])]),
        Self::always("sock_recv", "iiiiii", NOTSUP).writing(&[(4, &[0; 4]), (5, &[0; 2])]),
        Self::always("sock_send", "iiiii", NOTSUP).writing(&[(4, &[0; 4])]),
        Self::always("sock_shutdown", "ii", NOTSUP),
    ];

    const fn of_log(name: &'static str, words: &'static str) -> Self {
        Self { name, words, open: Open::Log, errno: SUCCESS, written: &[] }
    }

    const fn always(name: &'static str, words: &'static str, errno: u32) -> Self {
        Self { name, words, open: Open::All, errno, written: &[] }
    }

    const fn writing(self, written: &'static [(usize, &'static [u8])]) -> Self {
        Self { written, ..self }
    }

    /// Looks an import up. `wasi_unstable` is the older name of `wasi_snapshot_preview1`.
    pub fn from_import(module: &str, name: &str) -> Option<&'static Self> {
        let is_wasi = matches!(module, "wasi_snapshot_preview1" | "wasi_unstable");
        Self::ALL.iter().find(|stub| is_wasi && stub.name == name)
    }

    /// The name under which a module imports it.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Whether a module may call it before its contexts exist, as
    /// [`Function::is_allowed_at_start`](crate::Function::is_allowed_at_start).
    pub fn is_allowed_at_start(&self) -> bool {
        !matches!(self.name, "fd_close" | "fd_read" | "fd_seek" | "path_open" | "sched_yield")
    }

    /// For each raw word, whether wasm passes it in 64 bits.
    pub fn words(&self) -> impl ExactSizeIterator<Item = bool> {
        self.words.bytes().map(|letter| letter == b'I')
    }

    /// Why it answered with this number; `None` when it did what it was asked to.
    pub fn why(&self, errno: u32) -> Option<&'static str> {
        Some(match errno {
            SUCCESS => return None,
            BADF => "no such file is open",
            FAULT => "a pointer leaves the guest's memory",
            NOTDIR => "there are no folders",
            NOENT => "there are no files",
            _ => "a proxy does not offer this",
        })
    }

    /// What it answers to its raw words: the number that it returns, `errno` of WASI preview 1, and the
    /// bytes that it writes at each address.
    pub fn reply(&self, words: &[u64]) -> (u32, impl Iterator<Item = (u64, &'static [u8])>) {
        let is_open = match (self.open, words.first()) {
            (Open::All, _) | (Open::Log, Some(1 | 2)) => true,
            (Open::Log, _) => false,
        };
        let (errno, written) = if is_open { (self.errno, self.written) } else { (BADF, &[][..]) };
        let place = |&(place, bytes): &(usize, &'static [u8])| Some((*words.get(place)?, bytes));
        (errno, written.iter().filter_map(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Function;

    #[test]
    fn a_stub_stands_once_and_in_no_other_table() {
        for (index, stub) in Stub::ALL.iter().enumerate() {
            assert_eq!(Function::from_import("wasi_snapshot_preview1", stub.name()), None);
            let twin = Stub::ALL.iter().skip(index + 1).find(|other| other.name == stub.name);
            assert_eq!(twin, None);
        }
    }

    #[test]
    fn a_stub_is_found_by_module_and_name() {
        let check = |module, name, expected| {
            assert_eq!(Stub::from_import(module, name).is_some(), expected, "{module}.{name}");
        };
        check("wasi_snapshot_preview1", "fd_close", true);
        check("wasi_unstable", "fd_close", true);
        check("env", "fd_close", false);
        check("wasi_snapshot_preview1", "fd_write", false);
        check("wasi_snapshot_preview1", "proc_raise", false);
    }
}
