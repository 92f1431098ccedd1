//! Shared queues: messages from any worker to the one that registered last.

use std::collections::VecDeque;

use tollgate_abi::{Answer, Reply, Status};

use super::{Link, Scope, World};

/// All queues; the token of a queue is its place, counted from 1.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    queues: Vec<Queue>,
    /// Queues with a message that their owner has not been told of.
    pub(crate) ready: VecDeque<(Link, u32)>,
}

#[derive(Debug)]
struct Queue {
    vm_id: Vec<u8>,
    name: Vec<u8>,
    owner: Link,
    messages: VecDeque<Vec<u8>>,
}

impl Queue {
    fn is(&self, vm_id: &[u8], name: &[u8]) -> bool {
        self.vm_id == vm_id && self.name == name
    }
}

impl Queues {
    fn get_mut(&mut self, token: u32) -> Option<&mut Queue> {
        let index = usize::try_from(token).ok()?.checked_sub(1)?;
        self.queues.get_mut(index)
    }

    /// How many messages wait in all queues.
    pub(crate) fn waiting(&self) -> u64 {
        let waiting = self.queues.iter().map(|queue| queue.messages.len());
        u64::try_from(waiting.sum::<usize>()).unwrap_or(u64::MAX)
    }

    /// The messages that wait in a queue, if it is registered.
    pub(crate) fn messages(
        &self,
        vm_id: &[u8],
        name: &[u8],
    ) -> Option<impl Iterator<Item = &Vec<u8>>> {
        let queue = self.queues.iter().find(|queue| queue.is(vm_id, name))?;
        Some(queue.messages.iter())
    }

    fn token(&self, vm_id: &[u8], name: &[u8]) -> Option<u32> {
        let at = self.queues.iter().position(|queue| queue.is(vm_id, name))?;
        u32::try_from(at + 1).ok()
    }
}

impl World {
    pub(super) fn register_queue(&mut self, scope: &Scope, name: &[u8]) -> Reply {
        let vm_id = self.plugin_of(scope).map(|plugin| plugin.vm_id.clone()).unwrap_or_default();
        let root = self.root_of(scope).unwrap_or(scope.effective);
        let owner = Link { vm: scope.vm, root };
        if let Some(token) = self.queues.token(&vm_id, name) {
            if let Some(queue) = self.queues.get_mut(token) {
                queue.owner = owner;
            }
            return Reply::Done(Answer::U32(token));
        }
        let size = vm_id.len().saturating_add(name.len()).saturating_add(size_of::<Queue>());
        if let Err(trap) = self.keep(size) {
            return trap;
        }
        let queue = Queue { vm_id, name: name.to_vec(), owner, messages: VecDeque::new() };
        self.queues.queues.push(queue);
        match u32::try_from(self.queues.queues.len()) {
            Ok(token) => Reply::Done(Answer::U32(token)),
            Err(_) => Reply::refused(Status::InternalFailure, "too many queues"),
        }
    }

    pub(super) fn resolve_queue(&self, vm_id: &[u8], name: &[u8]) -> Reply {
        match self.queues.token(vm_id, name) {
            Some(token) => Reply::Done(Answer::U32(token)),
            None => {
                Reply::refused(Status::NotFound, "no VM with this id has registered such a queue")
            }
        }
    }

    pub(super) fn enqueue(&mut self, token: u32, message: &[u8]) -> Reply {
        if self.queues.get_mut(token).is_none() {
            return unknown(token);
        }
        if let Err(trap) = self.keep(message_bytes(message)) {
            return trap;
        }
        let Some(queue) = self.queues.get_mut(token) else {
            return unknown(token);
        };
        queue.messages.push_back(message.to_vec());
        let owner = queue.owner;
        self.queues.ready.push_back((owner, token));
        Reply::OK
    }

    pub(super) fn dequeue(&mut self, token: u32) -> Reply {
        let Some(queue) = self.queues.get_mut(token) else {
            return unknown(token);
        };
        match queue.messages.pop_front() {
            Some(message) => {
                self.let_go(message_bytes(&message));
                Reply::Done(Answer::Bytes(message))
            }
            None => Reply::refused(Status::Empty, "the queue is empty"),
        }
    }
}

/// How many bytes a message makes the host keep, with the note that it has come.
fn message_bytes(message: &[u8]) -> usize {
    message.len().saturating_add(size_of::<Vec<u8>>() + size_of::<(Link, u32)>())
}

fn unknown(token: u32) -> Reply {
    Reply::refused(Status::NotFound, format!("no queue has the token {token}"))
}
