//! A guest on its own: one VM, one stream, and the phases one by one, as suites of Service Extensions ask
//! for them.

use std::time::Duration;

use tollgate_abi::{Callback, HeadersAction, LogLevel};

use super::boot::Filter;
use super::{Offline, Run};
use crate::engine::Trap;
use crate::proxy::{HostFailure, LogLine, StartError};
use crate::scenario::{FilterUse, HeaderLine, Scenario};
use crate::suite::Input;
use crate::world::{Context, Link, LocalReply, Place, SortedHeaders, Staged, StreamId, World};

/// A plugin that has started, and perhaps its stream.
pub(crate) struct Stage {
    run: Run,
    link: Link,
    context: u32,
    /// The guest has answered: no phase comes to it any more.
    is_answered: bool,
    logged: usize,
}

/// What a phase left behind.
#[derive(Debug, Default)]
pub(crate) struct Left {
    pub(crate) headers: Vec<HeaderLine>,
    pub(crate) body: Vec<u8>,
    /// Whether the stream was held; a reply holds it in any case.
    pub(crate) held: Option<HeadersAction>,
    pub(crate) reply: Option<LocalReply>,
}

impl Offline<'_> {
    /// Starts a filter in a VM of its own.
    pub(crate) fn stage(
        &self,
        filter: &FilterUse,
        log_level: LogLevel,
        time: Duration,
    ) -> Result<Stage, StartError> {
        let mut world = World::new(log_level);
        world.staged = Some(Staged { time, ..Staged::default() });
        let mut run = Run::new(world, &Scenario::without_steps(filter.clone()));
        let filter = Filter::load(&mut run.world, self.loader, filter)?;
        let vm = run.make_vm(&filter, Place::Worker(0));
        let vm = vm.map_err(|failed| run.refusal(filter.plugin, &failed))?;
        // What it wrote before it had a context belongs to none.
        let logged = run.world.logs.len();
        let link = run.make_root(filter.plugin, vm);
        let link = link.map_err(|failed| run.refusal(filter.plugin, &failed))?;
        Ok(Stage { run, link, context: 0, is_answered: false, logged })
    }
}

impl Stage {
    /// The log lines of what has just happened.
    pub(crate) fn logs(&self) -> &[LogLine] {
        self.run.world.logs.get(self.logged..).unwrap_or_default()
    }

    /// Begins the stream, which finds the given properties.
    pub(crate) fn begin(&mut self, properties: &[(Vec<u8>, Vec<u8>)]) -> Result<(), Trap> {
        self.logged = self.run.world.logs.len();
        let Link { vm, root } = self.link;
        let context = Context::Stream { stream: StreamId(1), at: 0, root };
        self.context = self.run.world.vm_mut(vm).map_or(0, |vm| vm.add_context(context));
        self.staged(|staged| staged.properties = properties.to_vec());
        self.call(Callback::ContextCreate { context: self.context, parent: root }).map(drop)
    }

    /// Lets the guest see a phase, unless it has answered before.
    pub(crate) fn play(&mut self, input: &Input) -> Result<Left, Trap> {
        self.logged = self.run.world.logs.len();
        if self.is_answered {
            return Ok(Left::default());
        }
        let context = self.context;
        match input {
            Input::RequestHeaders(lines) => self.headers(lines, |count| Callback::RequestHeaders {
                context,
                count,
                end_of_stream: false,
            }),
            Input::ResponseHeaders(lines) => self.headers(lines, |count| {
                Callback::ResponseHeaders { context, count, end_of_stream: false }
            }),
            Input::RequestBody(chunks) => self.body(chunks, |size, end_of_stream| {
                Callback::RequestBody { context, size, end_of_stream }
            }),
            Input::ResponseBody(chunks) => self.body(chunks, |size, end_of_stream| {
                Callback::ResponseBody { context, size, end_of_stream }
            }),
        }
    }

    /// Ends the stream. Nothing is logged of it.
    pub(crate) fn end(&mut self) -> Result<(), Trap> {
        self.logged = self.run.world.logs.len();
        self.call(Callback::Done { context: self.context })?;
        self.call(Callback::Delete { context: self.context })?;
        if let Some(vm) = self.run.world.vm_mut(self.link.vm) {
            vm.contexts.remove(&self.context);
        }
        Ok(())
    }

    /// Ends the plugin.
    pub(crate) fn shut_down(&mut self) -> Result<(), Trap> {
        let context = self.link.root;
        // One that asks to wait is let go with its VM.
        if self.call(Callback::Done { context })? != Some(0) {
            self.call(Callback::Delete { context })?;
        }
        Ok(())
    }

    /// What the guest called that this host does not serve.
    pub(crate) fn refuse_what_was_called(&mut self) -> Result<(), HostFailure> {
        self.run.refuse_what_was_called()
    }

    fn headers(
        &mut self,
        lines: &[HeaderLine],
        callback: impl FnOnce(usize) -> Callback,
    ) -> Result<Left, Trap> {
        let mut headers = SortedHeaders::default();
        for (name, value) in lines {
            headers.add(name, value);
        }
        let count = headers.lines().len();
        self.staged(|staged| staged.headers = headers);
        let word = self.call(callback(count))?.unwrap_or(0);
        let mut left = Left::default();
        self.staged(|staged| {
            left.headers = std::mem::take(&mut staged.headers).lines();
            left.reply = staged.reply.take();
        });
        let action = HeadersAction::from(word);
        let goes_on =
            matches!(action, HeadersAction::Continue | HeadersAction::ContinueAndEndStream);
        left.held = (!goes_on).then_some(action);
        if let Some(reply) = &left.reply {
            self.is_answered = true;
            left.held = Some(HeadersAction::StopAllIterationAndBuffer);
            left.body.clone_from(&reply.body);
            // Of a header that stands twice in a reply, the last is left.
            let mut headers = SortedHeaders::default();
            for (name, value) in &reply.headers {
                headers.set(name, value);
            }
            left.headers = headers.lines();
        }
        Ok(left)
    }

    fn body(
        &mut self,
        chunks: &[Vec<u8>],
        callback: impl Fn(usize, bool) -> Callback,
    ) -> Result<Left, Trap> {
        let mut left = Left::default();
        for (index, chunk) in chunks.iter().enumerate() {
            // As there: of the log lines, those of the last chunk are looked at.
            self.logged = self.run.world.logs.len();
            self.staged(|staged| staged.body.clone_from(chunk));
            self.call(callback(chunk.len(), index + 1 == chunks.len()))?;
            // Whatever the callback returned.
            self.staged(|staged| left.body.append(&mut staged.body));
        }
        Ok(left)
    }

    fn call(&mut self, callback: Callback) -> Result<Option<u32>, Trap> {
        self.run.try_call(self.link.vm, callback)
    }

    fn staged(&mut self, change: impl FnOnce(&mut Staged)) {
        if let Some(staged) = &mut self.run.world.staged {
            change(staged);
        }
    }
}
