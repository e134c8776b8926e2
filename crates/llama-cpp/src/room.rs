//! Cells and sequence ids for a pass, of which there is a fixed number.

use upcycle_core::{Shape, TreeInput};

use crate::sequence::{Memory, Sequence};
use crate::{LlamaVerifier, PassError};

impl LlamaVerifier {
    /// Makes sure of cells and ids for the steps. What waits for a commit in their sequences goes before the pass only where
    /// there is not enough of either.
    pub(crate) fn make_room(&mut self, steps: &[TreeInput<'_>]) -> Result<(), PassError> {
        let rows: usize = steps.iter().map(|step| step.tree.len()).sum();
        let of_steps = |sequence: &&mut Sequence| steps.iter().any(|step| step.seq == sequence.id);
        let cells = self.context.cells();
        let used: usize =
            self.sequences.iter().map(|sequence| sequence.committed() + sequence.waiting()).sum();
        let droppable: usize =
            self.sequences.iter_mut().filter(of_steps).map(|sequence| sequence.waiting()).sum();
        if used - droppable + rows > cells {
            return Err(PassError::CellsUsedUp { used: used - droppable, rows, cells });
        }
        let leaves: usize = steps.iter().map(|step| step.tree.leaves()).sum();
        let tree = self.limits.support.shape() == Shape::Tree;
        // Counted before anything goes, so that an error changes nothing.
        if tree && self.obtainable_ids(steps) < leaves {
            return Err(PassError::IdsUsedUp { ids: self.ids.all() });
        }
        let tight = tree && !self.collect_ids(steps, leaves)?;
        if used + rows > cells || tight {
            let Self { context, sequences, .. } = self;
            for sequence in sequences.iter_mut().filter(of_steps) {
                sequence.drop_pending(context)?;
            }
        }
        if tight && !self.collect_ids(steps, leaves)? {
            return Err(PassError::IdsUsedUp { ids: self.ids.all() });
        }
        Ok(())
    }

    /// Ids that the steps could have: free and spare ones, and those of what waits in their own sequences.
    fn obtainable_ids(&self, steps: &[TreeInput<'_>]) -> usize {
        let of = |sequence: &Sequence| match &sequence.memory {
            Memory::Branches(branches) if steps.iter().any(|step| step.seq == sequence.id) => {
                branches.spare() + branches.waiting()
            }
            Memory::Branches(branches) => branches.spare(),
            Memory::Replay(_) => 0,
        };
        self.ids.free() + self.sequences.iter().map(of).sum::<usize>()
    }

    /// Takes spare ids of sequences that have more than they need, until there are enough for `leaves`; whether there are.
    pub(crate) fn collect_ids(&mut self, steps: &[TreeInput<'_>], leaves: usize) -> Result<bool, PassError> {
        let Self { context, sequences, ids, .. } = self;
        let need = |sequence: &Sequence| {
            let step = steps.iter().find(|step| step.seq == sequence.id);
            step.map_or(0, |step| step.tree.leaves())
        };
        let mut held = 0;
        for sequence in sequences.iter() {
            if let Memory::Branches(branches) = &sequence.memory {
                held += branches.spare().min(need(sequence));
            }
        }
        let missing = leaves - held;
        for sequence in sequences.iter_mut() {
            let need = need(sequence);
            let Memory::Branches(branches) = &mut sequence.memory else { continue };
            while ids.free() < missing && branches.spare() > need && branches.give_up(context, ids)? {}
        }
        Ok(ids.free() >= missing)
    }
}
