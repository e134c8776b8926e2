//! One drafter for each cache group, and a guard against drafters that panic.

use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use upcycle_core::snapshot::Fingerprint;
use upcycle_core::{
    DraftContext, DraftTree, Drafter, Footprint, Outcome, RowSelection, SeqId, SnapshotError,
};

use super::request::CacheGroup;
use crate::parts::BuildError;

/// Builds a drafter with empty tables.
pub(super) type MakeDrafter = Box<dyn Fn() -> Result<Box<dyn Drafter>, BuildError> + Send>;

/// How many named groups without a running request or an idle sequence keep their tables.
const KEPT_GROUPS: usize = 8;

/// Routes each sequence to the drafter of its group.
///
/// A drafter that panics is not called again for the sequence at hand, which is then decoded without drafts. Drafts never
/// change a text, so nothing else has to be undone.
pub(crate) struct GroupDrafter {
    make: MakeDrafter,
    shared: Box<dyn Drafter>,
    groups: Vec<Group>,
    sequences: HashMap<SeqId, Member>,
}

/// A group other than the shared one.
struct Group {
    key: GroupKey,
    drafter: Box<dyn Drafter>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum GroupKey {
    Shared,
    Named(String),
    Private(SeqId),
}

struct Member {
    group: GroupKey,
    /// Its drafter panicked.
    failed: bool,
}

impl GroupDrafter {
    pub(super) fn new(make: MakeDrafter, shared: Box<dyn Drafter>) -> Self {
        Self { make, shared, groups: Vec::new(), sequences: HashMap::new() }
    }

    /// Puts an open sequence into a group.
    pub(super) fn join(&mut self, seq: SeqId, group: &CacheGroup) -> Result<(), BuildError> {
        let key = match group {
            CacheGroup::Shared => GroupKey::Shared,
            CacheGroup::Named(name) => GroupKey::Named(name.clone()),
            CacheGroup::Private => GroupKey::Private(seq),
        };
        if key != GroupKey::Shared {
            // Ordered by last use, the latest last.
            let known = self.groups.iter().position(|group| group.key == key);
            let group = match known {
                Some(index) => self.groups.remove(index),
                None => Group { key: key.clone(), drafter: (self.make)()? },
            };
            self.groups.push(group);
        }
        self.sequences.insert(seq, Member { group: key, failed: false });
        self.drop_unused_groups();
        Ok(())
    }

    /// Drops private groups whose sequence has ended, and all but the last [`KEPT_GROUPS`] named groups without sequences.
    fn drop_unused_groups(&mut self) {
        let sequences = &self.sequences;
        let used = |key: &GroupKey| sequences.values().any(|member| member.group == *key);
        self.groups.retain(|group| used(&group.key) || !matches!(group.key, GroupKey::Private(_)));
        let mut unused = self.groups.iter().filter(|group| !used(&group.key)).count();
        self.groups.retain(|group| {
            let keep = used(&group.key) || unused <= KEPT_GROUPS;
            unused -= usize::from(!used(&group.key));
            keep
        });
    }

    /// Calls the drafter of a sequence. A panic turns it off for this sequence.
    fn call(&mut self, seq: SeqId, call: impl FnOnce(&mut dyn Drafter)) {
        let Some(member) = self.sequences.get_mut(&seq).filter(|member| !member.failed) else { return };
        let drafter = match &member.group {
            GroupKey::Shared => &mut self.shared,
            key => match self.groups.iter_mut().find(|group| group.key == *key) {
                Some(group) => &mut group.drafter,
                None => return,
            },
        };
        if catch_unwind(AssertUnwindSafe(|| call(&mut **drafter))).is_err() {
            member.failed = true;
            tracing::error!(%seq, "the drafter panicked; this answer continues without drafts");
        }
    }
}

impl Drafter for GroupDrafter {
    fn draft(&mut self, context: DraftContext<'_>, tree: &mut DraftTree) {
        self.call(context.seq, |drafter| drafter.draft(context, tree));
    }

    fn observe(&mut self, outcome: &Outcome<'_>) {
        self.call(outcome.seq, |drafter| drafter.observe(outcome));
    }

    fn drop_sequence(&mut self, seq: SeqId) {
        // What it keeps of the sequence is dropped after a panic too.
        if let Some(member) = self.sequences.get_mut(&seq) {
            member.failed = false;
        }
        self.call(seq, |drafter| drafter.drop_sequence(seq));
        self.sequences.remove(&seq);
        self.drop_unused_groups();
    }

    fn clear(&mut self) {
        self.shared.clear();
        self.groups.clear();
    }

    fn save(&self, path: &Path, fingerprint: &Fingerprint) -> Result<bool, SnapshotError> {
        self.shared.save(path, fingerprint)
    }

    fn load(&mut self, path: &Path, fingerprint: &Fingerprint) -> Result<bool, SnapshotError> {
        self.shared.load(path, fingerprint)
    }

    fn k(&self) -> usize {
        self.shared.k()
    }

    fn prompt_rows(&self) -> RowSelection {
        self.shared.prompt_rows()
    }

    fn footprint(&self) -> Footprint {
        let all = self.groups.iter().map(|group| &group.drafter).chain([&self.shared]);
        all.map(|drafter| drafter.footprint()).fold(Footprint::default(), |sum, more| Footprint {
            bytes: sum.bytes + more.bytes,
            filled_matrix_rows: sum.filled_matrix_rows + more.filled_matrix_rows,
        })
    }

    fn sources(&self) -> Vec<&'static str> {
        self.shared.sources()
    }
}

impl fmt::Debug for GroupDrafter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups: Vec<_> = self.groups.iter().map(|group| &group.key).collect();
        f.debug_struct("GroupDrafter").field("groups", &groups).finish_non_exhaustive()
    }
}
