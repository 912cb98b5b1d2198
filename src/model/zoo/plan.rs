//! What a scale and the options make of an architecture.

use super::ZooOptions;
use super::yaml::{Architecture, ArchitectureLayer};
use compresso_base::error::{Error, Result};

/// What is the same for all layers of a model.
#[derive(Debug)]
pub struct Plan<'a> {
    pub arch: &'a Architecture,
    /// Name of the scale, such as `n`; may be empty.
    pub scale: String,
    depth: f64,
    width: f64,
    /// Largest channel count before scaling.
    most: usize,
    pub classes: Vec<String>,
    /// Height and width in pixels.
    pub image: [usize; 2],
}

impl<'a> Plan<'a> {
    pub fn new(arch: &'a Architecture, scale: Option<(String, f64, f64, usize)>, options: &ZooOptions) -> Result<Self> {
        let (scale, depth, width, most) = scale.unwrap_or((String::new(), 1.0, 1.0, 1 << 20));
        let (depth, width) = (options.depth.unwrap_or(depth), options.width.unwrap_or(width));
        for (option, value) in [("depth", depth), ("width", width)] {
            if !(value > 0.0 && value <= 16.0) {
                return Err(Error::argument(format!("option '{option}' must be above 0 and at most 16, got {value}")));
            }
        }
        let detector = is_detector(arch);
        let image = options.image_size.unwrap_or(if detector { [640, 640] } else { [224, 224] });
        let classes = match &options.classes {
            Some(names) if names.is_empty() => return Err(Error::argument("option 'classes' must name at least one class")),
            Some(names) => names.clone(),
            None => (0..arch.classes).map(|i| format!("class{i}")).collect(),
        };
        let multiple = if detector { arch.strides.iter().copied().max().unwrap_or(32) } else { 1 };
        if image.iter().any(|&n| n == 0 || n % multiple != 0 || n > 8192) {
            return Err(Error::argument(format!(
                "option 'image_size' must be a multiple of {multiple} from {multiple} to 8192, got {}x{}",
                image[0], image[1]
            )));
        }
        Ok(Self { arch, scale, depth, width, most, classes, image })
    }
    /// A channel count, scaled by width.
    pub fn channels(&self, channels: usize) -> usize {
        round_up(channels.min(self.most) as f64 * self.width)
    }
    /// Repeats of a layer, scaled by depth.
    pub fn repeats(&self, layer: &ArchitectureLayer) -> usize {
        if layer.repeats > 1 { ((layer.repeats as f64 * self.depth).round_ties_even() as usize).max(1) } else { 1 }
    }
}

/// Whether it ends in a detector, of boxes or of more than that.
pub fn is_detector(arch: &Architecture) -> bool {
    let heads = ["Detect", "v10Detect", "DetectAnchors", "Segment", "Pose", "OBB", "RTDETRDecoder"];
    arch.layers.iter().any(|l| heads.contains(&l.module.trim_end_matches("26")))
}

/// Rounds a channel count up to a multiple of 8.
fn round_up(channels: f64) -> usize {
    ((channels / 8.0).ceil() as usize).max(1) * 8
}
