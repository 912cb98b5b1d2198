//! Orders of axes. A tensor holds a value with its axes in some order: axis i of the tensor is axis `perm[i]` of the value.

/// The value's own order.
pub(super) fn plain(rank: usize) -> Vec<usize> {
    (0..rank).collect()
}

/// Channels (axis 1) behind all others: NHWC of four axes.
pub(super) fn channels_last(rank: usize) -> Vec<usize> {
    if rank < 3 {
        return plain(rank);
    }
    std::iter::once(0).chain(2..rank).chain([1]).collect()
}

/// What belongs to a value's axes, in the order of a tensor's.
pub(super) fn permuted<T: Clone>(of: &[T], perm: &[usize]) -> Vec<T> {
    perm.iter().map(|&a| of[a].clone()).collect()
}

/// For each axis of the value, its place in the tensor.
pub(super) fn places(perm: &[usize]) -> Vec<usize> {
    let mut places = vec![0; perm.len()];
    for (i, &a) in perm.iter().enumerate() {
        places[a] = i;
    }
    places
}

/// True when two orders of a value's axes put the elements in the same order: axes of size one do not count.
pub(super) fn same_elements(dims: &[usize], a: &[usize], b: &[usize]) -> bool {
    let long = |perm: &[usize]| perm.iter().copied().filter(|&x| dims[x] != 1).collect::<Vec<_>>();
    long(a) == long(b)
}

/// A reshape in parts: axes `from` of the old shape become the axes `to` of the new one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    pub from: Vec<usize>,
    pub to: Vec<usize>,
}

/// The smallest parts of a reshape. Both shapes have the same, non-zero number of elements.
pub(super) fn parts(old: &[usize], new: &[usize]) -> Vec<Part> {
    let (mut i, mut j, mut parts) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        let (mut from, mut to) = (Vec::new(), Vec::new());
        let (mut a, mut b) = (1, 1);
        while !(a == b && !from.is_empty() && !to.is_empty()) {
            let old_first = a < b || a == b && from.len() <= to.len();
            if i < old.len() && (old_first || j == new.len()) {
                a *= old[i];
                from.push(i);
                i += 1;
            } else if j < new.len() {
                b *= new[j];
                to.push(j);
                j += 1;
            } else {
                break;
            }
        }
        parts.push(Part { from, to });
    }
    parts
}

/// For a value of shape `old` whose tensor has the order `perm`: the order that the tensor must have for a reshape to `new`, as near to
/// `perm` as can be, and the order of what the reshape makes.
pub(super) fn reshaped(old: &[usize], new: &[usize], perm: &[usize]) -> (Vec<usize>, Vec<usize>) {
    if old.contains(&0) || new.contains(&0) {
        return (plain(old.len()), plain(new.len()));
    }
    let place = places(perm);
    // A part stands where its first long axis stands; one that is made of nothing, with what is before it.
    let (mut parts, mut last) = (Vec::new(), 0);
    for part in self::parts(old, new) {
        last = part.from.iter().filter(|&&a| old[a] != 1).chain(&part.from).map(|&a| place[a]).next().unwrap_or(last);
        parts.push((last, part));
    }
    parts.sort_by_key(|&(at, _)| at);
    let parts: Vec<Part> = parts.into_iter().map(|(_, part)| part).collect();
    let needed: Vec<usize> = parts.iter().flat_map(|p| p.from.iter().copied()).collect();
    let made = parts.iter().flat_map(|p| p.to.iter().copied()).collect();
    let needed = if same_elements(old, &needed, perm) { perm.to_vec() } else { needed };
    (needed, made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_joined_without_a_transpose() {
        // NCHW 1×144×8×8 held as NHWC; (1, 144, 64) comes out as (1, 64, 144).
        assert_eq!(reshaped(&[1, 144, 8, 8], &[1, 144, 64], &[0, 2, 3, 1]), (vec![0, 2, 3, 1], vec![0, 2, 1]));
        // (1, 64, 8400) held with channels last; its channels are parted.
        assert_eq!(reshaped(&[1, 64, 8400], &[1, 4, 16, 8400], &[0, 2, 1]), (vec![0, 2, 1], vec![0, 3, 1, 2]));
    }

    #[test]
    fn what_a_reshape_mixes_is_brought_in_order_first() {
        assert_eq!(reshaped(&[1, 3, 4, 5], &[1, 60], &[0, 2, 3, 1]), (vec![0, 1, 2, 3], vec![0, 1]));
        // Channels of one pixel are in order already.
        assert_eq!(reshaped(&[1, 30, 1, 1], &[1, 30], &[0, 2, 3, 1]), (vec![0, 2, 3, 1], vec![0, 1]));
    }

    #[test]
    fn parts_are_the_smallest() {
        let part = |from: &[usize], to: &[usize]| Part { from: from.to_vec(), to: to.to_vec() };
        assert_eq!(parts(&[2, 6, 4], &[2, 2, 3, 4]), [part(&[0], &[0]), part(&[1], &[1, 2]), part(&[2], &[3])]);
        assert_eq!(parts(&[6], &[2, 3, 1]), [part(&[0], &[0, 1]), part(&[], &[2])]);
        assert_eq!(parts(&[], &[1]), [part(&[], &[0])]);
    }
}
