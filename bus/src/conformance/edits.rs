//! Announced edits.

use model::id::Revision;

use super::{World, queue};
use crate::edits::{EDITS_KEPT_MAX, Edit, EditReader, EditWriter};

fn edit(job: &str, revision: u64) -> Edit {
    Edit { job: job.parse().expect("a job"), revision: Revision(revision) }
}

pub async fn announced_edits_are_read_from_a_mark_on(world: &impl World) {
    let (bus, queue) = (world.bus(), queue("reports"));
    let none = bus.edits_after(&queue, None).await.expect("read");
    assert_eq!((none.edits, none.mark, none.complete_since), (vec![], None, None));
    bus.announce(&queue, &edit("billing/a", 3)).await.expect("stored");
    bus.announce(&super::queue("others"), &edit("billing/b", 4)).await.expect("stored");
    bus.announce(&queue, &edit("billing/a", 5)).await.expect("stored");
    let other = world.other().await;
    let all = other.edits_after(&queue, None).await.expect("read");
    assert_eq!(all.edits, [edit("billing/a", 3), edit("billing/a", 5)]);
    assert_eq!(all.complete_since, None);
    let nothing = other.edits_after(&queue, all.mark).await.expect("read");
    assert_eq!((nothing.edits, nothing.mark), (vec![], all.mark));
    bus.announce(&queue, &edit("billing/c", 6)).await.expect("stored");
    let new = other.edits_after(&queue, all.mark).await.expect("read");
    assert_eq!(new.edits, [edit("billing/c", 6)]);
}

pub async fn edits_that_are_not_kept_any_more_are_said_to_be_missing(world: &impl World) {
    let (bus, queue) = (world.bus(), queue("reports"));
    let mut mark = None;
    for revision in 0..=EDITS_KEPT_MAX as u64 {
        bus.announce(&queue, &edit("billing/a", revision)).await.expect("stored");
        if revision == 1 {
            mark = bus.edits_after(&queue, None).await.expect("read").mark;
        }
    }
    let all = bus.edits_after(&queue, None).await.expect("read");
    assert_eq!((all.edits.len(), all.complete_since.is_some()), (EDITS_KEPT_MAX, true));
    assert_eq!(all.edits.first(), Some(&edit("billing/a", 1)));
    let new = bus.edits_after(&queue, mark).await.expect("read");
    assert_eq!((new.edits.len(), new.complete_since), (EDITS_KEPT_MAX - 1, None));
}
