//! What a host calls in a guest: each export is looked up once, with its type.

use tollgate_abi::CallbackWords;
use wasmtime::{Error, Instance, Store};

use crate::guest::Slot;

/// An export that takes words and gives one, or 0 for nothing.
pub(crate) struct Exported {
    run: Box<Run>,
    words: usize,
}

/// How many words an export may take.
const MOST_WORDS: usize = CallbackWords::MOST;

type Run = dyn Fn(&mut Store<Slot>, [u32; MOST_WORDS]) -> Result<u32, Error> + Send;

impl Exported {
    /// Looks an export up; `None` when the module has no function of words with this name. Whether what
    /// Envoy calls has the signature that it wants has been judged before.
    pub(crate) fn find(store: &mut Store<Slot>, instance: &Instance, name: &str) -> Option<Self> {
        let function = instance.get_func(&mut *store, name)?;
        let ty = function.ty(&*store);
        let (words, results) = (ty.params().len(), ty.results().len());
        macro_rules! typed {
            ($($word:ident)*) => {
                if results == 0 {
                    let function = function.typed::<($(typed!(@ $word),)*), ()>(&*store).ok()?;
                    Box::new(move |store: &mut Store<Slot>, [$($word,)* ..]: [u32; MOST_WORDS]| {
                        function.call(store, ($($word,)*)).map(|()| 0_u32)
                    }) as Box<Run>
                } else {
                    let function = function.typed::<($(typed!(@ $word),)*), u32>(&*store).ok()?;
                    Box::new(move |store: &mut Store<Slot>, [$($word,)* ..]: [u32; MOST_WORDS]| {
                        function.call(store, ($($word,)*))
                    })
                }
            };
            (@ $word:ident) => { u32 };
        }
        let run = match words {
            0 => typed!(),
            1 => typed!(a),
            2 => typed!(a b),
            3 => typed!(a b c),
            4 => typed!(a b c d),
            MOST_WORDS => typed!(a b c d e),
            _ => return None,
        };
        Some(Self { run, words })
    }

    /// How many words it takes.
    pub(crate) fn words(&self) -> usize {
        self.words
    }

    /// Runs it.
    ///
    /// # Errors
    ///
    /// The guest traps, or the export takes another number of words.
    pub(crate) fn call(&self, store: &mut Store<Slot>, words: &[u32]) -> Result<u32, Error> {
        if words.len() != self.words {
            let (takes, given) = (self.words, words.len());
            return Err(Error::msg(format!("expected {takes} arguments, got {given}")));
        }
        let mut padded = [0; MOST_WORDS];
        for (padded, &word) in padded.iter_mut().zip(words) {
            *padded = word;
        }
        (self.run)(store, padded)
    }
}
