//! The opacity of images, for models of four channels: read as images of their own, so that all that happens to the colours
//! happens to them.

use super::{Augment, Dataset, Sample, Source};
use compresso_base::error::Result;
use image::{GrayImage, Rgb, RgbImage};
use std::sync::Arc;

/// A source whose images are the opacity of another's.
struct Opacity(Arc<dyn Source>);

impl Source for Opacity {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn get(&self, i: usize) -> Result<Sample> {
        let sample = self.0.get(i)?;
        self.of(i, sample)
    }
    fn get_at(&self, i: usize, size: [usize; 2]) -> Result<Sample> {
        let sample = self.0.get_at(i, size)?;
        self.of(i, sample)
    }
}

impl Opacity {
    fn of(&self, i: usize, sample: Sample) -> Result<Sample> {
        let (w, h) = sample.image.dimensions();
        let image = self.0.opacity_of(i)?.map_or_else(|| RgbImage::from_pixel(w, h, Rgb([255; 3])), |g| grey_image(&g));
        Ok(Sample { image, ..sample })
    }
}

/// A grey image with three equal channels.
pub fn grey_image(image: &GrayImage) -> RgbImage {
    RgbImage::from_fn(image.width(), image.height(), |x, y| Rgb([image.get_pixel(x, y).0[0]; 3]))
}

/// The dataset whose images are the opacity of this one's.
pub(super) fn opacity_of(data: &Dataset) -> Dataset {
    data.with_sources(|d| Arc::new(Opacity(d.source.clone())))
}

/// The same changes of place, without those of colour, which are drawn last.
pub(super) fn still(augment: &Augment) -> Augment {
    Augment { hue: 0.0, saturation: 0.0, value: 0.0, ..augment.clone() }
}

#[cfg(test)]
mod tests {
    use crate::data::{Augment, DataOptions, ImageForm, Loader, LoaderOptions, dataset};
    use compresso_base::context::Context;
    use image::{Rgba, RgbaImage};

    /// Images whose opacity is their red.
    fn data(dir: &std::path::Path) -> crate::data::Dataset {
        for i in 0..6u32 {
            let image = RgbaImage::from_fn(40 + i, 30, |x, y| {
                Rgba([((x * 6 + y) % 256) as u8, 50, (y * 8 % 256) as u8, ((x * 6 + y) % 256) as u8])
            });
            std::fs::create_dir_all(dir.join("labels")).unwrap();
            std::fs::create_dir_all(dir.join("images")).unwrap();
            image.save(dir.join(format!("images/{i}.png"))).unwrap();
            std::fs::write(dir.join(format!("labels/{i}.txt")), "0 .5 .5 .4 .4\n").unwrap();
        }
        std::fs::write(dir.join("data.yaml"), "train: images\nnames: [a]\n").unwrap();
        dataset(&dir.display().to_string(), &DataOptions::default(), &Context::new()).unwrap()
    }

    #[test]
    fn opacity_goes_where_its_colours_go() {
        let dir = tempfile::tempdir().unwrap();
        let data = data(dir.path());
        let form = ImageForm { channels: 4, middle: None };
        let still = Augment { hue: 0.0, saturation: 0.0, value: 0.0, mixup: 0.5, degrees: 10.0, vflip: 0.5, ..Augment::default() };
        for augment in [None, Some(still)] {
            let options = LoaderOptions { batch: 6, size: [32, 48], augment, form: form.clone(), seed: 3, ..LoaderOptions::default() };
            let batch = Loader::new(&data, options, &Context::new()).unwrap().next().unwrap().unwrap();
            assert_eq!(batch.images.dims(), [6, 4, 32, 48]);
            let red = batch.images.narrow(1, 0, 1).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let opacity = batch.images.narrow(1, 3, 1).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(red, opacity);
            assert!(red.iter().any(|v| (v - 114.0 / 255.0).abs() > 0.1));
        }
        // Colours change, opacity does not.
        let loud = Augment { saturation: 1.0, value: 1.0, mosaic: 0.0, scale: 0.0, translate: 0.0, hflip: 0.0, ..Augment::default() };
        let options = |augment| LoaderOptions { batch: 6, size: [32, 48], augment, form: form.clone(), ..LoaderOptions::default() };
        let channel = |augment, c| {
            let batch = Loader::new(&data, options(augment), &Context::new()).unwrap().next().unwrap().unwrap();
            batch.images.narrow(1, c, 1).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let mut quiet = loud.clone();
        (quiet.saturation, quiet.value, quiet.hue) = (0.0, 0.0, 0.0);
        assert_ne!(channel(Some(loud.clone()), 0), channel(Some(quiet.clone()), 0));
        assert_eq!(channel(Some(loud), 3), channel(Some(quiet), 3));
    }
}
