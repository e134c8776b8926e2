//! Cells and sequence ids for a pass. llama.cpp has a fixed number of both.

use upcycle_core::{Sequence, SequenceTable, TreeInput, TreeKind};

use crate::cells::{Cells, Memory};
use crate::context::Context;
use crate::error::PassError;
use crate::seq_ids::SeqIds;

/// Makes sure that there are cells and ids for a pass. Drops the pending trees of its sequences before the pass only if there is
/// not enough of either otherwise. After an error nothing has changed.
pub(crate) fn reserve(
    context: &mut Context,
    sequences: &mut SequenceTable<Cells>,
    ids: &mut SeqIds,
    inputs: &[TreeInput<'_>],
) -> Result<(), PassError> {
    let rows: usize = inputs.iter().map(|input| input.tree.len()).sum();
    let in_pass = |sequence: &Sequence<Cells>| inputs.iter().any(|input| input.seq == sequence.id());
    let cells = context.cells();
    let used: usize = sequences.iter().map(|sequence| sequence.committed() + sequence.pending_rows()).sum();
    let droppable: usize =
        sequences.iter().filter(|sequence| in_pass(sequence)).map(Sequence::pending_rows).sum();
    if used - droppable + rows > cells {
        return Err(PassError::CellsUsedUp { used: used - droppable, rows, cells });
    }
    let leaves: usize = inputs.iter().map(|input| input.tree.leaves()).sum();
    let tree = sequences.limits().support.kind() == TreeKind::Tree;
    if tree && obtainable_ids(sequences, ids, inputs) < leaves {
        return Err(ids.used_up());
    }
    let tight = tree && !collect_ids(context, sequences, ids, inputs)?;
    if used + rows > cells || tight {
        for sequence in sequences.iter_mut().filter(|sequence| in_pass(sequence)) {
            let committed = sequence.committed();
            sequence.state.drop_pending(context, committed);
            sequence.drop_pending();
        }
    }
    if tight && !collect_ids(context, sequences, ids, inputs)? {
        return Err(ids.used_up());
    }
    Ok(())
}

/// The ids that a pass could have: the free ones, the spare ones, and those of its sequences' pending trees.
fn obtainable_ids(sequences: &SequenceTable<Cells>, ids: &SeqIds, inputs: &[TreeInput<'_>]) -> usize {
    let of = |sequence: &Sequence<Cells>| match &sequence.state.memory {
        Memory::Branches(branches) if inputs.iter().any(|input| input.seq == sequence.id()) => {
            branches.spare_ids() + branches.pending_ids()
        }
        Memory::Branches(branches) => branches.spare_ids(),
        Memory::Replay(_) => 0,
    };
    ids.free() + sequences.iter().map(of).sum::<usize>()
}

/// Releases spare ids of sequences that have more than they need, until there is one for each leaf of `inputs`. False if there
/// are too few.
fn collect_ids(
    context: &mut Context,
    sequences: &mut SequenceTable<Cells>,
    ids: &mut SeqIds,
    inputs: &[TreeInput<'_>],
) -> Result<bool, PassError> {
    let needed = |sequence: &Sequence<Cells>| {
        let input = inputs.iter().find(|input| input.seq == sequence.id());
        input.map_or(0, |input| input.tree.leaves())
    };
    let mut missing = inputs.iter().map(|input| input.tree.leaves()).sum::<usize>();
    for sequence in sequences.iter() {
        if let Memory::Branches(branches) = &sequence.state.memory {
            missing -= branches.spare_ids().min(needed(sequence));
        }
    }
    for sequence in sequences.iter_mut() {
        let needed = needed(sequence);
        let Memory::Branches(branches) = &mut sequence.state.memory else { continue };
        while ids.free() < missing && branches.spare_ids() > needed && branches.release_spare(context, ids)? {
        }
    }
    Ok(ids.free() >= missing)
}

/// Takes an id for a new sequence. Releases the spare id of another one if none is free.
pub(crate) fn take_id(
    context: &mut Context,
    sequences: &mut SequenceTable<Cells>,
    ids: &mut SeqIds,
) -> Result<i32, PassError> {
    for sequence in sequences.iter_mut() {
        let Memory::Branches(branches) = &mut sequence.state.memory else { continue };
        if ids.free() > 0 || branches.release_spare(context, ids)? {
            break;
        }
    }
    ids.take()
}
