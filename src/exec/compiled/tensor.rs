//! Tensors of a plan: what they hold and where they lie.
//!
//! A tensor is a root, with memory of its own or inside another, or a view of one. Layouts follow from that on demand, so
//! that a root can move into a larger one (the result of a concatenation) after others have taken views of it.

/// Number of a tensor in its plan.
pub type Id = usize;

/// Element type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    F32,
    U8,
}

impl Kind {
    pub fn bytes(self) -> usize {
        if self == Self::F32 { 4 } else { 1 }
    }
}

/// Where a root lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Home {
    /// Memory that is reused when the tensor is not needed any more.
    Arena,
    /// The n-th input of a run.
    Input(usize),
    /// Constants, at a byte offset.
    Constants(usize),
    /// Positions `start..` of `axis` of another root, seen with the sizes `seen`.
    Within { root: Id, axis: usize, start: usize, seen: Vec<usize> },
}

/// How a view looks at a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    Slice {
        axis: usize,
        start: usize,
        step: usize,
    },
    /// The same elements in row-major order with other sizes.
    Shape,
    Permute(Vec<usize>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `order` lists the axes from the slowest to the fastest; the fastest is padded to a multiple of `pitch`.
    Root {
        order: Vec<usize>,
        pitch: usize,
        home: Home,
    },
    View {
        of: Id,
        how: How,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    pub kind: Kind,
    pub dims: Vec<usize>,
    pub source: Source,
    /// Its memory must not move: it is an output, or is not written by jobs.
    pub fixed: bool,
}

/// Elements from the start of the outermost root: offset and stride of each axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    pub root: Id,
    pub offset: usize,
    pub strides: Vec<usize>,
}

impl Layout {
    /// Elements from the first to the last, both included.
    pub fn reach(&self, dims: &[usize]) -> usize {
        if dims.contains(&0) {
            return 0;
        }
        dims.iter().zip(&self.strides).map(|(n, s)| (n - 1) * s).sum::<usize>() + 1
    }
}

/// The tensors of a plan.
#[derive(Debug, Clone, Default)]
pub struct Tensors(pub Vec<Tensor>);

impl std::ops::Index<Id> for Tensors {
    type Output = Tensor;
    fn index(&self, id: Id) -> &Tensor {
        &self.0[id]
    }
}

impl Tensors {
    pub fn add(&mut self, tensor: Tensor) -> Id {
        self.0.push(tensor);
        self.0.len() - 1
    }
    /// A new root in the arena.
    pub fn root(&mut self, kind: Kind, dims: &[usize], order: &[usize]) -> Id {
        let source = Source::Root { order: order.to_vec(), pitch: 1, home: Home::Arena };
        self.add(Tensor { kind, dims: dims.to_vec(), source, fixed: false })
    }
    pub fn view(&mut self, of: Id, how: How, dims: &[usize]) -> Id {
        let kind = self[of].kind;
        self.add(Tensor { kind, dims: dims.to_vec(), source: Source::View { of, how }, fixed: false })
    }
    /// A view with other sizes, if the layout allows one.
    pub fn reshaped(&mut self, of: Id, dims: &[usize]) -> Option<Id> {
        if self[of].dims == dims {
            return Some(of);
        }
        let layout = self.layout(of)?;
        reshape(&self[of].dims, &layout.strides, dims)?;
        Some(self.view(of, How::Shape, dims))
    }
    /// The root that a tensor is a view of, itself for a root; roots within others count.
    pub fn own_root(&self, mut id: Id) -> Id {
        while let Source::View { of, .. } = self[id].source {
            id = of;
        }
        id
    }
    /// The root with memory of its own that a tensor lies in.
    pub fn outermost(&self, id: Id) -> Id {
        let root = self.own_root(id);
        match &self[root].source {
            Source::Root { home: Home::Within { root, .. }, .. } => self.outermost(*root),
            _ => root,
        }
    }
    /// `None` when a view is impossible.
    pub fn layout(&self, id: Id) -> Option<Layout> {
        let t = &self[id];
        match &t.source {
            Source::Root { home: Home::Within { root, axis, start, seen }, .. } => {
                let outer = self.layout(*root)?;
                let strides = reshape(seen, &outer.strides, &t.dims)?;
                Some(Layout { root: outer.root, offset: outer.offset + start * outer.strides[*axis], strides })
            }
            Source::Root { order, pitch, .. } => {
                let (mut strides, mut step) = (vec![0; t.dims.len()], 1);
                for (i, &axis) in order.iter().rev().enumerate() {
                    strides[axis] = step;
                    step *= if i == 0 { t.dims[axis].next_multiple_of(*pitch) } else { t.dims[axis] };
                }
                Some(Layout { root: id, offset: 0, strides })
            }
            Source::View { of, how } => {
                let Layout { root, offset, strides } = self.layout(*of)?;
                Some(match how {
                    How::Slice { axis, start, step } => {
                        let mut cut = strides.clone();
                        cut[*axis] *= step;
                        Layout { root, offset: offset + start * strides[*axis], strides: cut }
                    }
                    How::Permute(axes) => Layout { root, offset, strides: axes.iter().map(|&a| strides[a]).collect() },
                    How::Shape => Layout { root, offset, strides: reshape(&self[*of].dims, &strides, &t.dims)? },
                })
            }
        }
    }
    /// The axes from the slowest to the fastest.
    pub fn order(&self, id: Id) -> Option<Vec<usize>> {
        let layout = self.layout(id)?;
        let mut axes: Vec<usize> = (0..layout.strides.len()).collect();
        axes.sort_by_key(|&a| (std::cmp::Reverse(layout.strides[a]), a));
        Some(axes)
    }
    /// True for elements in row-major order without gaps.
    pub fn is_plain(&self, id: Id) -> bool {
        self.layout(id).is_some_and(|l| {
            let mut step = 1;
            self[id].dims.iter().zip(&l.strides).rev().all(|(&n, &s)| {
                let fits = n == 1 || s == step;
                step *= n;
                fits
            })
        })
    }
}

/// Strides of the same elements, in row-major order, seen with other sizes; `None` where they do not lie evenly.
pub fn reshape(from: &[usize], strides: &[usize], to: &[usize]) -> Option<Vec<usize>> {
    let count: usize = from.iter().product();
    if count == 0 || count != to.iter().product::<usize>() {
        return None;
    }
    // Runs of axes that lie like one.
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (&n, &s) in from.iter().zip(strides).filter(|(n, _)| **n != 1) {
        match runs.last_mut() {
            Some((count, step)) if *step == s * n => (*count, *step) = (*count * n, s),
            _ => runs.push((n, s)),
        }
    }
    let mut out = vec![0; to.len()];
    let mut run = runs.len();
    // What is left of the current run, and its stride.
    let (mut left, mut step) = (1, 1);
    for (d, &n) in to.iter().enumerate().rev() {
        if n == 1 {
            out[d] = step;
            continue;
        }
        if left == 1 {
            run = run.checked_sub(1)?;
            (left, step) = runs[run];
        }
        if left % n != 0 {
            return None;
        }
        out[d] = step;
        left /= n;
        step *= n;
    }
    (left == 1 && run == 0).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reshaping_follows_the_elements() {
        // [1, 64, 8, 4] channels last.
        let (dims, strides) = ([1, 64, 8, 4], [2048, 1, 256, 64]);
        assert_eq!(reshape(&dims, &strides, &[1, 64, 32]).map(|s| s[1..].to_vec()), Some(vec![1, 64]));
        assert_eq!(reshape(&dims, &strides, &[1, 4, 16, 32]).map(|s| s[1..].to_vec()), Some(vec![16, 1, 64]));
        assert_eq!(reshape(&dims, &strides, &[1, 2048]), None);
        // A slice of channels keeps its gaps.
        assert_eq!(reshape(&[1, 32, 8, 4], &strides, &[32, 32]), Some(vec![1, 64]));
        assert_eq!(reshape(&[2, 3], &[3, 1], &[5]), None);
        assert_eq!(reshape(&[6, 4], &[4, 1], &[4, 6]), Some(vec![6, 1]));
        assert_eq!(reshape(&[6, 4], &[8, 1], &[4, 6]), None);
        assert_eq!(reshape(&[1, 5, 1, 1], &[5, 1, 5, 5], &[5]), Some(vec![1]));
    }

    #[test]
    fn a_root_moves_into_another_with_its_views() {
        let mut t = Tensors::default();
        let conv = t.root(Kind::F32, &[1, 6, 4, 4], &[0, 2, 3, 1]);
        let half = t.view(conv, How::Slice { axis: 1, start: 3, step: 1 }, &[1, 3, 4, 4]);
        let flat = t.reshaped(half, &[1, 3, 16]).unwrap();
        let joined = t.root(Kind::F32, &[1, 10, 4, 4], &[0, 2, 3, 1]);
        let Source::Root { home, .. } = &mut t.0[conv].source else { unreachable!() };
        *home = Home::Within { root: joined, axis: 1, start: 4, seen: vec![1, 6, 4, 4] };
        let l = t.layout(flat).unwrap();
        assert_eq!((l.root, l.offset, l.strides[1..].to_vec()), (joined, 7, vec![1, 10]));
        assert_eq!(t.outermost(flat), joined);
        assert!(!t.is_plain(conv));
    }
}
