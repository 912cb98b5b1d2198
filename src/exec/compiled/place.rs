//! Where tensors lie: parts inside the concatenations that they go into, and the arena.

use super::lower::{Lowered, LoweredStep, Op};
use super::tensor::{Home, How, Id, Source, Tensors};

/// Puts the parts of concatenations into their results where layouts allow it, so that nothing is copied.
pub fn place_parts(tensors: &mut Tensors, steps: &[LoweredStep]) {
    // Concatenations of which no part is copied: others that go on where they end take them in as a whole.
    let mut joined: Vec<(usize, &[Id], Id)> = Vec::new();
    for step in steps {
        let Op::Concat(axis) = step.op else { continue };
        let (to, mut start, mut at) = (step.writes[0], 0, 0);
        while at < step.reads.len() {
            let id = step.reads[at];
            let begun = joined.iter().filter(|(along, parts, _)| *along == axis && step.reads[at..].starts_with(parts));
            if let Some(&(_, parts, root)) = begun.max_by_key(|(_, parts, _)| parts.len()) {
                let seen = tensors[root].dims.clone();
                let length = seen[axis];
                settle(tensors, root, Home::Within { root: to, axis, start, seen });
                start += length;
                at += parts.len();
                continue;
            }
            let many = slices(tensors, &step.reads[at..], axis);
            match many {
                Some((root, count)) => {
                    let seen = tensors[root].dims.clone();
                    settle(tensors, root, Home::Within { root: to, axis, start, seen });
                    start += step.reads[at..at + count].iter().map(|&r| tensors[r].dims[axis]).sum::<usize>();
                    at += count;
                }
                None => {
                    let seen = tensors[id].dims.clone();
                    let root = match tensors[id].source {
                        Source::View { of, how: How::Shape } => of,
                        _ => id,
                    };
                    start += seen[axis];
                    let home = Home::Within { root: to, axis, start: start - seen[axis], seen };
                    settle(tensors, root, home);
                    at += 1;
                }
            }
        }
        let mut start = 0;
        let whole = step.reads.iter().all(|&id| {
            start += tensors[id].dims[axis];
            is_part(tensors, id, to, axis, start - tensors[id].dims[axis])
        });
        if whole {
            joined.push((axis, &step.reads, to));
        }
    }
}

/// True for a tensor that lies at positions `start..` of `axis` of another.
pub fn is_part(tensors: &Tensors, id: Id, to: Id, axis: usize, start: usize) -> bool {
    let (Some(layout), Some(outer)) = (tensors.layout(id), tensors.layout(to)) else { return false };
    let same = tensors[id].dims.iter().zip(layout.strides.iter().zip(&outer.strides)).all(|(&n, (a, b))| n == 1 || a == b);
    layout.root == outer.root && layout.offset == outer.offset + start * outer.strides[axis] && same
}

/// The root whose slices along `axis`, all of it in order, the first of `ids` are, and how many those are.
fn slices(tensors: &Tensors, ids: &[Id], axis: usize) -> Option<(Id, usize)> {
    let mut end = 0;
    let mut root = None;
    for (count, &id) in ids.iter().enumerate() {
        let Source::View { of, how: How::Slice { axis: along, start, step: 1 } } = &tensors[id].source else { return None };
        if *along != axis || *start != end || root.is_some_and(|r| r != *of) {
            return None;
        }
        root = Some(*of);
        end += tensors[id].dims[axis];
        if end == tensors[*of].dims[axis] {
            return Some((*of, count + 1));
        }
    }
    None
}

/// Gives a root another home, unless that would move what must not or leave a view without a layout.
fn settle(tensors: &mut Tensors, root: Id, home: Home) {
    let Home::Within { root: outer, .. } = home else { return };
    let movable = matches!(tensors[root].source, Source::Root { home: Home::Arena, pitch: 1, .. });
    if !movable || tensors[root].fixed || tensors[root].kind != tensors[outer].kind || tensors.outermost(outer) == root {
        return;
    }
    let significant = |t: &Tensors| -> Option<Vec<usize>> { Some(t.order(root)?.into_iter().filter(|&a| t[root].dims[a] != 1).collect()) };
    let before = significant(tensors);
    set_home(tensors, root, home);
    let unit = |t: &Tensors| {
        let (Some(order), Some(layout)) = (significant(t), t.layout(root)) else { return false };
        order.last().is_none_or(|&a| layout.strides[a] == 1)
    };
    let fits = significant(tensors) == before && unit(tensors) && (0..tensors.0.len()).all(|i| tensors.layout(i).is_some());
    if !fits {
        set_home(tensors, root, Home::Arena);
    }
}

fn set_home(tensors: &mut Tensors, root: Id, to: Home) {
    if let Source::Root { home, .. } = &mut tensors.0[root].source {
        *home = to;
    }
}

/// Offsets of the arena's roots, in bytes, and the arena's size.
#[derive(Debug, Default)]
pub struct Arena {
    pub offsets: std::collections::HashMap<Id, usize>,
    pub bytes: usize,
    /// Bytes of all roots together: what an arena without reuse would take.
    pub total: usize,
}

/// Bytes beyond a tensor's end that vector loads may touch.
const SLACK: usize = 64;

/// Lays roots out so that those that are needed at the same time do not overlap: largest first, each as low as it fits.
pub fn lay_out(plan: &Lowered) -> Arena {
    let tensors = &plan.tensors;
    let last = plan.steps.len();
    let mut spans: std::collections::BTreeMap<Id, (usize, usize)> = std::collections::BTreeMap::new();
    let mut touch = |id: Id, at: usize| {
        let root = tensors.outermost(id);
        if matches!(tensors[root].source, Source::Root { home: Home::Arena, .. }) {
            let span = spans.entry(root).or_insert((at, at));
            *span = (span.0.min(at), span.1.max(at));
        }
    };
    for (i, step) in plan.steps.iter().enumerate() {
        step.reads.iter().chain(&step.writes).for_each(|&id| touch(id, i));
    }
    for (_, output) in &plan.outputs {
        if let super::lower::Output::Tensor(id) | super::lower::Output::Bytes { id, .. } = output {
            touch(*id, last);
        }
    }
    plan.observed.iter().for_each(|&(_, id, steps)| touch(id, steps.saturating_sub(1)));
    let bytes = |root: Id| {
        let t = &tensors[root];
        let reach = tensors.layout(root).map_or(0, |l| l.reach(&t.dims));
        (reach * t.kind.bytes() + SLACK).next_multiple_of(64)
    };
    let mut roots: Vec<(Id, usize, (usize, usize))> = spans.iter().map(|(&id, &span)| (id, bytes(id), span)).collect();
    roots.sort_by_key(|&(id, size, _)| (std::cmp::Reverse(size), id));
    let mut arena = Arena::default();
    let mut laid: Vec<(usize, usize, (usize, usize))> = Vec::new();
    for (id, size, span) in roots {
        let mut taken: Vec<(usize, usize)> =
            laid.iter().filter(|(_, _, s)| s.0 <= span.1 && span.0 <= s.1).map(|&(at, size, _)| (at, at + size)).collect();
        taken.sort_unstable();
        let mut at = 0;
        for (start, end) in taken {
            if at + size <= start {
                break;
            }
            at = at.max(end);
        }
        laid.push((at, size, span));
        arena.offsets.insert(id, at);
        arena.bytes = arena.bytes.max(at + size);
        arena.total += size;
    }
    arena
}
