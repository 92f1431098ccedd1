//! Host calls read out of memory and answered into it, with pointers that may lead anywhere.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use proptest::prelude::*;
use tollgate_abi::{
    Answer, Call, Delivered, Fault, Function, LogLevel, Memory, PointerWidth, Reply, Serialized,
    Status,
};

/// An answer that came whole.
fn whole(status: Status) -> Delivered {
    Delivered { status, fault: None }
}

/// A guest's memory with an allocator that goes upwards.
struct Plain {
    bytes: Vec<u8>,
    next: usize,
}

impl Plain {
    fn new() -> Self {
        Self { bytes: vec![0; 4096], next: 2048 }
    }

    fn u32(&self, address: usize) -> u32 {
        u32::from_le_bytes(self.bytes[address..address + 4].try_into().unwrap())
    }
}

impl Memory for Plain {
    fn pointer_width(&self) -> PointerWidth {
        PointerWidth::Four
    }

    fn read(&self, address: u64, size: u64) -> Option<&[u8]> {
        let start = usize::try_from(address).ok()?;
        self.bytes.get(start..start.checked_add(usize::try_from(size).ok()?)?)
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Option<()> {
        let start = usize::try_from(address).ok()?;
        self.bytes.get_mut(start..start.checked_add(bytes.len())?)?.copy_from_slice(bytes);
        Some(())
    }

    fn allocate(&mut self, size: usize) -> Option<u64> {
        let address = self.next;
        self.next = self.next.checked_add(size).filter(|&end| end <= self.bytes.len())?;
        u64::try_from(address).ok()
    }
}

#[test]
fn a_call_is_read_with_its_arguments() {
    let mut memory = Plain::new();
    memory.write(16, b"hello").unwrap();
    let call = Call::decode(Function::Log, &[2, 16, 5], &memory).unwrap();
    assert_eq!(call, Call::Log { level: LogLevel::Info, message: b"hello".to_vec() });
    assert_eq!(call.to_string(), "proxy_log(level=info, message=\"hello\")");
}

#[test]
fn scattered_buffers_are_put_together() {
    let mut memory = Plain::new();
    memory.write(16, b"hello").unwrap();
    memory.write(32, &[16, 0, 0, 0, 4, 0, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0]).unwrap();
    let call = Call::decode(Function::FdWrite, &[1, 32, 2, 64], &memory).unwrap();
    assert_eq!(call.to_string(), "fd_write(fd=1, data=\"hello\")");
}

#[test]
fn a_pointer_outside_of_memory_is_a_fault() {
    let memory = Plain::new();
    for (address, size) in [(4090, 7), (4096, 1), (0, 4097), (u64::from(u32::MAX), 1)] {
        assert_eq!(
            Call::decode(Function::Log, &[2, address, size], &memory),
            Err(Fault::OutOfBounds { address, size }),
        );
    }
}

#[test]
fn an_empty_argument_may_point_anywhere() {
    let call = Call::decode(Function::Log, &[2, u64::MAX, 0], &Plain::new()).unwrap();
    assert_eq!(call, Call::Log { level: LogLevel::Info, message: Vec::new() });
}

#[test]
fn an_answer_goes_into_memory_of_the_guests_allocator() {
    let mut memory = Plain::new();
    let reply = Reply::Done(Answer::Shared { value: b"abc".to_vec(), cas: 7 });
    let status = reply.deliver(Function::GetSharedData, &[0, 0, 100, 104, 108], &mut memory);
    assert_eq!(status, Ok(whole(Status::Ok)));
    assert_eq!((memory.u32(100), memory.u32(104), memory.u32(108)), (2048, 3, 7));
    assert_eq!(&memory.bytes[2048..2051], b"abc");
}

#[test]
fn no_bytes_are_a_null_pointer() {
    let mut memory = Plain::new();
    memory.write(100, &[0xff; 8]).unwrap();
    let reply = Reply::Done(Answer::Pairs(Serialized(Vec::new())));
    let status = reply.deliver(Function::GetHeaderMapPairs, &[0, 100, 104], &mut memory);
    assert_eq!(status, Ok(whole(Status::Ok)));
    assert_eq!((memory.u32(100), memory.u32(104)), (0, 0));
}

#[test]
fn a_call_that_failed_may_give_something_even_so() {
    let mut memory = Plain::new();
    memory.write(100, &[0xff; 8]).unwrap();
    let answer = Answer::Bytes(Vec::new());
    let reply = Reply::Failed { status: Status::BadArgument, why: "".into(), answer };
    let words = [0, 0, 0, 0, 100, 104];
    let status = reply.deliver(Function::CallForeignFunction, &words, &mut memory);
    assert_eq!(status, Ok(whole(Status::BadArgument)));
    assert_eq!((memory.u32(100), memory.u32(104)), (0, 0));
}

#[test]
fn an_answer_that_finds_no_room_is_invalid_memory_access() {
    let check = |reply: Reply, words: &[u64], function, status, fault| {
        let delivered = reply.deliver(function, words, &mut Plain::new());
        assert_eq!(delivered, Ok(Delivered { status, fault: Some(fault) }));
    };
    let outside = |address, size| Fault::OutOfBounds { address, size };
    let invalid = Status::InvalidMemoryAccess;
    let time = Reply::Done(Answer::U64(1));
    check(time.clone(), &[4092], Function::GetCurrentTime, invalid, outside(4092, 8));
    // EFAULT of WASI.
    check(time, &[0, 0, 4092], Function::ClockTimeGet, Status::Unknown(21), outside(4092, 8));
    let bytes = Reply::Done(Answer::Bytes(vec![0; 4096]));
    let words = [0, 0, 0, 100, 104];
    check(bytes, &words, Function::GetProperty, invalid, Fault::Allocation { size: 4096 });
}

#[test]
fn buffers_that_overlap_are_gathered_up_to_a_bound() {
    let mut memory = Plain::new();
    memory.bytes = vec![0; 1 << 20];
    // 128 times the same half of a mebibyte.
    for at in 0..128 {
        memory.write(at * 8, &[0, 0, 8, 0, 0, 0, 8, 0]).unwrap();
    }
    let gather = |count| Call::decode(Function::FdWrite, &[1, 0, count, 0], &memory);
    assert!(gather(128).is_ok());
    memory.write(128 * 8, &[0, 0, 8, 0, 1, 0, 0, 0]).unwrap();
    let gather = |count| Call::decode(Function::FdWrite, &[1, 0, count, 0], &memory);
    assert_eq!(gather(129), Err(Fault::TooLarge { most: 64 << 20 }));
}

#[test]
fn an_answer_of_the_wrong_kind_is_a_bug_of_the_host() {
    let mut memory = Plain::new();
    let reply = Reply::Done(Answer::U32(1));
    assert!(reply.deliver(Function::Log, &[2, 0, 0], &mut memory).is_err());
    let reply = Reply::OK;
    assert!(reply.deliver(Function::GetCurrentTime, &[8], &mut memory).is_err());
}

proptest! {
    #[test]
    fn any_words_are_read_without_a_panic(
        function in prop::sample::select(Function::ALL),
        words in prop::collection::vec(prop_oneof![0..8192_u64, any::<u32>().prop_map(u64::from), any::<u64>()], 0..12),
        bytes in prop::collection::vec(any::<u8>(), 4096),
    ) {
        let mut memory = Plain { bytes, next: 2048 };
        if let Ok(call) = Call::decode(function, &words, &memory) {
            prop_assert_eq!(call.function(), function);
            let shown = call.to_string();
            prop_assert!(shown.starts_with(function.name()));
        }
        for answer in [
            Answer::Nothing,
            Answer::U64(1),
            Answer::Bytes(vec![1; 100]),
            Answer::Fill(vec![1; 100]),
            Answer::Strings(vec![vec![1; 10]; 3]),
        ] {
            let _status = Reply::Done(answer).deliver(function, &words, &mut memory);
        }
    }
}
