//! A session that owns its memory and shares its model and its threads.

use crate::host::Model;
use crate::memory::Memory;
use dsv4_core::arch::disjoint::Parallel;
use dsv4_core::error::Result;
use dsv4_core::session::{Logits, Progress, Run, Session as CoreSession, SessionParams};
use self_cell::{MutBorrow, self_cell};
use std::sync::Arc;

struct Owned {
    model: Arc<Model>,
    memory: MutBorrow<Memory>,
}

self_cell!(
    struct Timeline {
        owner: Owned,
        #[not_covariant]
        dependent: CoreSession,
    }
);

/// One timeline over a model.
pub struct Session {
    timeline: Timeline,
    parallel: Arc<dyn Parallel + Send + Sync>,
}

impl Session {
    /// An empty timeline, whose work `parallel` runs.
    pub fn new(model: Arc<Model>, params: &SessionParams, parallel: Arc<dyn Parallel + Send + Sync>) -> Result<Self> {
        let need = CoreSession::plan(model.core().config(), params)?.bytes();
        let owned = Owned { model, memory: MutBorrow::new(Memory::new(need)?) };
        let timeline = Timeline::try_new(owned, |owned| {
            CoreSession::new(owned.model.core(), params, owned.memory.borrow_mut().bytes())
        })?;
        Ok(Self { timeline, parallel })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.timeline.borrow_owner().model
    }

    /// Looks at the core's session: its position, tokens, parameters.
    pub fn with<T>(&self, look: impl FnOnce(&CoreSession<'_>) -> T) -> T {
        self.timeline.with_dependent(|_, session| look(session))
    }

    /// Changes the core's session: clears or rewinds it.
    pub fn with_mut<T>(&mut self, change: impl FnOnce(&mut CoreSession<'_>) -> T) -> T {
        self.timeline.with_dependent_mut(|_, session| change(session))
    }

    /// Appends `tokens` and computes the logits asked for, as [`CoreSession::eval`] does.
    pub fn eval(
        &mut self,
        tokens: &[u32],
        logits: Logits<'_>,
        progress: &mut dyn FnMut(Progress) -> bool,
    ) -> Result<()> {
        let parallel = &*self.parallel;
        self.timeline.with_dependent_mut(|_, session| {
            session.eval(tokens, logits, &mut Run { parallel, progress, observer: None })
        })
    }

    /// Goes back to where the timeline and `tokens` part, as [`CoreSession::keep_prefix`] does.
    pub fn keep_prefix(&mut self, tokens: &[u32]) -> usize {
        self.with_mut(|session| session.keep_prefix(tokens))
    }
}
