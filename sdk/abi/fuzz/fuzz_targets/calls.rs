//! Any call with any words over any memory: it is decoded or refused, and can be shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_abi::{Answer, Call, Function, Memory, PointerWidth, Reply};

struct Bytes(Vec<u8>);

impl Memory for Bytes {
    fn pointer_width(&self) -> PointerWidth {
        PointerWidth::Four
    }

    fn read(&self, address: u64, size: u64) -> Option<&[u8]> {
        let start = usize::try_from(address).ok()?;
        self.0.get(start..start.checked_add(usize::try_from(size).ok()?)?)
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Option<()> {
        let start = usize::try_from(address).ok()?;
        self.0.get_mut(start..start.checked_add(bytes.len())?)?.copy_from_slice(bytes);
        Some(())
    }

    fn allocate(&mut self, size: usize) -> Option<u64> {
        (size < self.0.len()).then_some(8)
    }
}

fuzz_target!(|input: (u8, Vec<u32>, Vec<u8>)| {
    let (function, words, memory) = input;
    let function = Function::ALL[usize::from(function) % Function::ALL.len()];
    let words: Vec<u64> = words.into_iter().map(u64::from).collect();
    let mut memory = Bytes(memory);
    if let Ok(call) = Call::decode(function, &words, &memory) {
        assert_eq!(call.function(), function);
        assert!(call.to_string().starts_with(function.name()));
    }
    for answer in [Answer::Nothing, Answer::U64(1), Answer::Bytes(vec![1; 9]), Answer::Strings(vec![vec![1; 9]])] {
        let _status = Reply::Done(answer).deliver(function, &words, &mut memory);
    }
});
