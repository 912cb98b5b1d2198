//! Shapes of blobs: at most four sizes, outermost first (channels, depth, height, width), without the batch.
//!
//! A blob's elements stand in the order in which the graph's tensor has them, so that any shape with as many elements is a view of
//! it. Axes of size 1, the batch among them, can be left out, and neighbours that are treated alike can be one axis.

/// The most axes that a blob has.
pub(super) const MOST: usize = 4;

/// The shape that a tensor's blob has where nothing else is asked for: without its batch of 1.
pub(super) fn canonical(dims: &[usize]) -> Vec<usize> {
    let inner = match dims {
        [] => return vec![1],
        [1, rest @ ..] if !rest.is_empty() => rest,
        _ => dims,
    };
    if inner.len() <= MOST {
        return inner.to_vec();
    }
    let long: Vec<usize> = inner.iter().copied().filter(|&d| d != 1).collect();
    match long.len() {
        0 => vec![1],
        n if n <= MOST => long,
        n => {
            let (outer, last) = long.split_at(n + 1 - MOST);
            std::iter::once(outer.iter().product()).chain(last.iter().copied()).collect()
        }
    }
}

/// Channels, rows and columns: all axes behind the channels but the last are rows.
pub(super) fn image(channels: usize, spatial: &[usize]) -> Vec<usize> {
    match spatial {
        [] => vec![channels, 1, 1],
        [rows @ .., columns] => vec![channels, rows.iter().product(), *columns],
    }
}

/// A view in which the axes of `own` stand by themselves, and where they stand in it; `None` where that takes too many axes.
pub(super) fn with_axes(dims: &[usize], own: &[usize]) -> Option<(Vec<usize>, Vec<usize>)> {
    if let [1, rest @ ..] = dims
        && !own.contains(&0)
        && (1..=MOST).contains(&rest.len())
    {
        return Some((rest.to_vec(), own.iter().map(|a| a - 1).collect()));
    }
    if (1..=MOST).contains(&dims.len()) {
        return Some((dims.to_vec(), own.to_vec()));
    }
    let (mut shape, mut places, mut last_is_own) = (Vec::new(), vec![0; own.len()], true);
    for (axis, &size) in dims.iter().enumerate() {
        match own.iter().position(|&a| a == axis) {
            Some(i) => {
                places[i] = shape.len();
                shape.push(size);
                last_is_own = true;
            }
            None if size == 1 => {}
            None => {
                match shape.last_mut() {
                    Some(last) if !last_is_own => *last *= size,
                    _ => shape.push(size),
                }
                last_is_own = false;
            }
        }
    }
    if shape.is_empty() {
        shape.push(1);
    }
    (shape.len() <= MOST).then_some((shape, places))
}

/// A permutation of the axes of a view that does what `perm` does with `dims`; that of one axis where nothing moves. It may have more
/// axes than a blob.
pub(super) fn permutation(dims: &[usize], perm: &[usize]) -> (Vec<usize>, Vec<usize>) {
    // Axes of size 1 do not count; of the others, those that stay neighbours are one.
    let long: Vec<usize> = perm.iter().copied().filter(|&a| dims[a] != 1).collect();
    let next = |a: usize| (a + 1..dims.len()).find(|&b| dims[b] != 1);
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for axis in long {
        match groups.last_mut() {
            Some(group) if group.last().and_then(|&last| next(last)) == Some(axis) => group.push(axis),
            _ => groups.push(vec![axis]),
        }
    }
    let mut order: Vec<usize> = (0..groups.len()).collect();
    order.sort_by_key(|&g| groups[g][0]);
    let shape = order.iter().map(|&g| groups[g].iter().map(|&a| dims[a]).product()).collect();
    let mut to = vec![0; groups.len()];
    for (place, &g) in order.iter().enumerate() {
        to[g] = place;
    }
    (shape, to)
}

/// The shapes in which two operands and their result are combined: of one rank, where a size is the result's or 1.
pub(super) fn broadcast(a: &[usize], b: &[usize], out: &[usize]) -> Option<[Vec<usize>; 3]> {
    let rank = out.len();
    let padded = |s: &[usize]| -> Vec<usize> { std::iter::repeat_n(1, rank - s.len()).chain(s.iter().copied()).collect() };
    let (a, b) = (padded(a), padded(b));
    if rank > 1 && out[0] == 1 && rank - 1 <= MOST {
        return Some([a[1..].to_vec(), b[1..].to_vec(), out[1..].to_vec()]);
    }
    if (1..=MOST).contains(&rank) {
        return Some([a, b, out.to_vec()]);
    }
    let mut shapes = [Vec::new(), Vec::new(), Vec::new()];
    let mut last = None;
    for i in (0..rank).filter(|&i| out[i] != 1) {
        let kind = (a[i] == 1, b[i] == 1);
        for (shape, size) in shapes.iter_mut().zip([a[i], b[i], out[i]]) {
            match shape.last_mut() {
                Some(s) if last == Some(kind) => *s *= size,
                _ => shape.push(size),
            }
        }
        last = Some(kind);
    }
    if shapes[2].is_empty() {
        shapes = [vec![1], vec![1], vec![1]];
    }
    (shapes[2].len() <= MOST).then_some(shapes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_of_one_is_no_axis() {
        assert_eq!(canonical(&[1, 3, 8, 8]), [3, 8, 8]);
        assert_eq!(canonical(&[]), [1]);
        assert_eq!(canonical(&[1]), [1]);
        assert_eq!(canonical(&[2, 3]), [2, 3]);
        assert_eq!(canonical(&[1, 2, 1, 3, 4, 5]), [2, 3, 4, 5]);
        assert_eq!(canonical(&[2, 3, 4, 5, 6, 7]), [24, 5, 6, 7]);
    }

    #[test]
    fn axes_that_are_asked_for_stand_alone() {
        assert_eq!(with_axes(&[1, 3, 8, 9], &[1]), Some((vec![3, 8, 9], vec![0])));
        assert_eq!(with_axes(&[1, 3, 8, 9], &[0]), Some((vec![1, 3, 8, 9], vec![0])));
        assert_eq!(with_axes(&[2, 3, 4, 5, 6, 7], &[3]), Some((vec![24, 5, 42], vec![1])));
        assert_eq!(with_axes(&[2, 3, 4, 5, 6, 7], &[0, 3]), Some((vec![2, 12, 5, 42], vec![0, 2])));
        assert_eq!(with_axes(&[2, 3, 4, 5, 6, 7], &[1, 3]), None);
    }

    #[test]
    fn a_permutation_moves_as_few_axes_as_it_can() {
        assert_eq!(permutation(&[1, 2, 58, 28, 28], &[0, 2, 1, 3, 4]), (vec![2, 58, 784], vec![1, 0, 2]));
        assert_eq!(permutation(&[1, 49, 3, 4, 32], &[2, 0, 3, 1, 4]), (vec![49, 12, 32], vec![1, 0, 2]));
        assert_eq!(permutation(&[1, 3, 1, 5], &[2, 0, 1, 3]), (vec![15], vec![0]));
        assert_eq!(permutation(&[1, 1], &[1, 0]), (vec![], vec![]));
    }

    #[test]
    fn operands_share_axes_where_they_are_broadcast_alike() {
        assert_eq!(broadcast(&[3, 1, 1], &[1, 3, 4, 5], &[1, 3, 4, 5]), Some([vec![3, 1, 1], vec![3, 4, 5], vec![3, 4, 5]]));
        let wide = [2, 3, 4, 5, 6, 7];
        assert_eq!(broadcast(&wide, &[6, 7], &wide), Some([vec![120, 42], vec![1, 42], vec![120, 42]]));
    }
}
