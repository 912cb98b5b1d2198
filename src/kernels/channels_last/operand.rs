//! What a job reads and writes, declared by the job itself: every check of bounds, alignment and overlap follows from it.

use super::view::{View, reach};
use compresso_base::error::{Error, Result};

/// Most elements of an operand, counted with repetitions, and most elements from its first to its last. More than any
/// machine has, and so few that what kernels work out from sizes (scratch memory, parts) stays below 2^63.
pub const MAX_ELEMENTS: usize = 1 << 44;

/// Type of the elements of an operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// Bytes.
    U8,
    /// Also stands for any four bytes that are moved as they are.
    F32,
}

impl Element {
    /// Bytes of an element; they are aligned to as many.
    pub fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::F32 => 4,
        }
    }
}

/// The elements that a job reads or writes through one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operand {
    element: Element,
    /// Size and stride, in elements, of the axes longer than 1; the smallest stride first.
    axes: Vec<(usize, usize)>,
    reach: usize,
    role: Role,
}

/// What else is known about an operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Plain,
    /// The output may be this input itself.
    InPlace,
    /// What lies between its elements is read as well.
    Whole,
}

impl Operand {
    /// An array of given sizes and strides.
    ///
    /// # Errors
    /// `Shape` when there are not as many strides as sizes, or more than [`MAX_ELEMENTS`].
    pub fn strided(element: Element, sizes: &[usize], strides: &[usize]) -> Result<Self> {
        if sizes.len() != strides.len() {
            return Err(Error::shape(format!("an operand of sizes {sizes:?} needs as many strides, got {strides:?}")));
        }
        if let Some(stride) = strides.iter().find(|s| **s > MAX_ELEMENTS) {
            return Err(Error::shape(format!("strides are at most {MAX_ELEMENTS} elements, got {stride}")));
        }
        let (count, reach) = (sizes.iter().fold(1, |p: usize, n| p.saturating_mul((*n).max(1))), reach(sizes, strides));
        if count.max(reach) > MAX_ELEMENTS {
            return Err(Error::shape(format!(
                "an operand of sizes {sizes:?} and strides {strides:?} has more than {MAX_ELEMENTS} elements"
            )));
        }
        let mut axes: Vec<(usize, usize)> = sizes.iter().copied().zip(strides.iter().copied()).filter(|(n, _)| *n != 1).collect();
        axes.sort_by_key(|(_, stride)| *stride);
        if reach == 0 {
            axes.clear();
        }
        Ok(Self { element, axes, reach, role: Role::Plain })
    }
    /// An image.
    ///
    /// # Errors
    /// As [`Operand::strided`].
    pub fn image(element: Element, view: &View) -> Result<Self> {
        Self::strided(element, &view.size(), &[view.row, view.pixel, view.channel])
    }
    /// Says that the output may be this input itself, element by element.
    #[must_use]
    pub fn in_place(self) -> Self {
        Self { role: Role::InPlace, ..self }
    }
    /// Says that what lies between the elements is read as well.
    #[must_use]
    pub fn whole(self) -> Self {
        Self { role: Role::Whole, ..self }
    }
    /// Type of its elements.
    pub fn element(&self) -> Element {
        self.element
    }
    /// Elements from the first to the last, both included.
    pub fn reach(&self) -> usize {
        self.reach
    }
    /// Bytes from the first to the last, both included.
    pub fn bytes(&self) -> usize {
        self.reach * self.element.bytes()
    }
    /// True when no two indices are the same element, as far as strides that each exceed what is inside of them tell.
    fn is_distinct(&self) -> bool {
        distinct(&self.axes, 1)
    }
}

fn distinct(axes: &[(usize, usize)], width: usize) -> bool {
    let mut span = width;
    axes.iter().all(|&(n, stride)| {
        let apart = stride >= span;
        span = span.saturating_add((n - 1).saturating_mul(stride));
        apart
    })
}

/// What a job reads and writes, in the order in which it takes addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operands {
    inputs: Vec<Operand>,
    outputs: Vec<Operand>,
}

impl Operands {
    /// # Errors
    /// `Shape` when two indices of an output are one element.
    pub fn new(inputs: Vec<Operand>, outputs: Vec<Operand>) -> Result<Self> {
        match outputs.iter().position(|o| !o.is_distinct()) {
            Some(i) => Err(Error::shape(format!("output {i} has one element at several indices: sizes and strides {:?}", outputs[i].axes))),
            None => Ok(Self { inputs, outputs }),
        }
    }
    /// What is read, in the order of [`Args::inputs`](super::Args::inputs).
    pub fn inputs(&self) -> &[Operand] {
        &self.inputs
    }
    /// What is written, in the order of [`Args::outputs`](super::Args::outputs).
    pub fn outputs(&self) -> &[Operand] {
        &self.outputs
    }
    /// True when there is nothing to compute.
    pub fn is_empty(&self) -> bool {
        self.outputs.iter().all(|o| o.reach == 0)
    }

    /// Checks where the operands lie, for `images` images: that all of them are inside their memory and aligned, and that
    /// nothing is written that is read or written through another address.
    ///
    /// # Errors
    /// `Argument` with the rule that is broken.
    pub fn check(&self, inputs: &[Place], outputs: &[Place], images: usize) -> Result<()> {
        let (needs, has) = ([self.inputs.len(), self.outputs.len()], [inputs.len(), outputs.len()]);
        if needs != has {
            return Err(Error::argument(format!("expected {} inputs and {} outputs, got {} and {}", needs[0], needs[1], has[0], has[1])));
        }
        if images == 0 || self.is_empty() {
            return Ok(());
        }
        let laid = |what: &'static str, operands: &[Operand], places: &[Place]| -> Result<Vec<Laid>> {
            let all = operands.iter().zip(places).enumerate();
            all.map(|(i, (o, p))| Laid::new(o, p, images).map_err(|e| e.at(format!("{what} {i}")))).collect()
        };
        let (reads, writes) = (laid("input", &self.inputs, inputs)?, laid("output", &self.outputs, outputs)?);
        for (i, to) in writes.iter().enumerate() {
            if !to.is_empty() && !distinct(&to.axes, to.width) {
                return Err(Error::argument(format!("output {i} of one image lies across that of another")));
            }
            if let Some(other) = writes[..i].iter().position(|o| !o.is_apart_from(to)) {
                return Err(Error::argument(format!("output {i} lies across output {other}")));
            }
            for (n, (from, input)) in reads.iter().zip(&self.inputs).enumerate() {
                if !(from.is_apart_from(to) || input.role == Role::InPlace && from == to) {
                    return Err(Error::argument(format!("output {i} lies across input {n}")));
                }
            }
        }
        Ok(())
    }
}

/// Where an operand lies, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Which memory: two places in different ones have nothing in common. Its start is aligned for any element.
    pub memory: usize,
    /// Bytes of the memory.
    pub size: usize,
    /// Of the first element of the first image.
    pub offset: usize,
    /// From one image to the next.
    pub image: usize,
}

/// An operand for all images, in bytes of its memory.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Laid {
    memory: usize,
    start: usize,
    /// Bytes that lie together; 0 when there are none.
    width: usize,
    /// Size and stride in bytes, the smallest stride first.
    axes: Vec<(usize, usize)>,
}

impl Laid {
    /// # Errors
    /// `Argument` when it leaves its memory or is not aligned.
    fn new(o: &Operand, p: &Place, images: usize) -> Result<Self> {
        let element = o.element.bytes();
        let first = if images > 1 { p.image } else { 0 };
        let end = first.checked_mul(images - 1).and_then(|n| n.checked_add(p.offset)).and_then(|n| n.checked_add(o.bytes()));
        if end.is_none_or(|end| end > p.size) {
            return Err(Error::argument(format!(
                "{images} times {} bytes, the first at {} and each {} after the one before, do not lie in a memory of {} bytes",
                o.bytes(),
                p.offset,
                p.image,
                p.size
            )));
        }
        if !p.offset.is_multiple_of(element) || !first.is_multiple_of(element) {
            return Err(Error::argument(format!(
                "elements of {element} bytes must lie at multiples of {element}, got the offset {} and {} from image to image",
                p.offset, p.image
            )));
        }
        let (width, mut axes) = match o.role {
            _ if o.reach == 0 => (0, Vec::new()),
            Role::Whole => (o.bytes(), Vec::new()),
            Role::Plain | Role::InPlace => (element, o.axes.iter().map(|&(n, s)| (n, s * element)).collect()),
        };
        if images > 1 {
            axes.push((images, p.image));
            axes.sort_by_key(|(_, stride)| *stride);
        }
        Ok(Self { memory: p.memory, start: p.offset, width, axes })
    }

    /// True when the two have no byte in common. Splits the axes of each into inner ones, which span a range, and outer
    /// ones, whose strides are multiples of a common period: ranges that are apart within a period are apart. Operands that
    /// interleave in any other way count as overlapping.
    fn is_apart_from(&self, other: &Self) -> bool {
        if self.memory != other.memory || self.is_empty() || other.is_empty() {
            return true;
        }
        let (low, high) = if self.start <= other.start { (self, other) } else { (other, self) };
        let between = high.start - low.start;
        (0..=low.axes.len()).any(|i| {
            (0..=high.axes.len()).any(|j| {
                let outer = low.axes[i..].iter().chain(&high.axes[j..]);
                let period = outer.fold(0, |g, &(_, stride)| gcd(g, stride));
                let (a, b) = (low.span(i), high.span(j));
                if period == 0 { a <= between } else { a <= between % period && between % period + b <= period }
            })
        })
    }
    fn is_empty(&self) -> bool {
        self.width == 0
    }
    /// Bytes from the first to the last along the first `axes` axes.
    fn span(&self, axes: usize) -> usize {
        self.axes[..axes].iter().fold(self.width, |sum, &(n, stride)| sum + (n - 1) * stride)
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
