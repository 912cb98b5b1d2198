//! Datasets and images.

use super::judge::{self, checked};
use super::{files, watch};
use compresso::learn::data::{DataOptions, dataset, image_size, read_image};
use std::path::Path;

/// A picture of 16 by 16 pixels: smaller ones are not used.
fn picture() -> Vec<u8> {
    let mut png = std::io::Cursor::new(Vec::new());
    let image = image::RgbImage::from_pixel(16, 16, image::Rgb([10, 200, 30]));
    image.write_to(&mut png, image::ImageFormat::Png).expect("a small picture");
    png.into_inner()
}

/// Opens a dataset, checks it and reads its images.
fn open(path: &Path) {
    let ctx = watch::context();
    for check in [false, true] {
        if let Some(data) = checked(dataset(&path.to_string_lossy(), &DataOptions { check, ..DataOptions::default() }, &ctx)) {
            if check {
                judge::through();
            }
            for i in 0..data.len().min(4) {
                checked(data.get(i));
            }
        }
    }
}

pub const YOLO: &[&str] = &[
    "path: .\ntrain: images\nval: images\nnames:\n  0: a\n  1: b\n\u{0}0 0.5 0.5 0.25 0.25\n1 0.1 0.1 0.2 0.2\n",
    "train: images/train\nval: [images/val, images]\nnc: 2\nnames: [a, b]\ndownload: x\n\u{0}0 0.1 0.1 0.9 0.1 0.9 0.9 0.1 0.9\n",
    "train: images\nval: images\nkpt_shape: [3, 3]\nflip_idx: [0, 2, 1]\nnames: {0: p}\n\u{0}0 0.5 0.5 0.5 0.5 0.1 0.2 2 0.3 0.4 1 0 0 0\n",
    "train: list.txt\nval: images\nnames: !!omap [a: &x 1, <<: *x]\n\u{0}nan inf -1 1e400 0x1\n",
];

/// A data.yaml and, after a zero byte, labels of an image.
pub fn yolo(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |&b| b == 0);
    let (yaml, labels) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    // Datasets may be anywhere: what a changed text names elsewhere is not of this test.
    if leaves(yaml) {
        return;
    }
    let path = files::write("yolo/data.yaml", yaml);
    files::write("yolo/images/0.png", &picture());
    files::write("yolo/list.txt", b"./images/0.png\n");
    files::write("yolo/labels/0.txt", labels);
    open(&path);
}

/// True for a text with a path that may lead out of the folder.
pub fn leaves(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    text.contains("..")
        || text.contains('~')
        || text.replace(['\\', '"', '\'', ':', '[', ',', '-'], " ").split_whitespace().any(|w| w.starts_with('/'))
}

pub const ARCHITECTURES: &[&str] = &[
    "nc: 3\nscales:\n  n: [0.33, 0.25, 1024]\nbackbone:\n  - [-1, 1, Conv, [16, 3, 2]]\n  - [-1, 1, Conv, [16, 3, 2]]\n  - [-1, 2, C2f, [16, true]]\n\
     head:\n  - [[1, 2], 1, Detect, [nc]]\n",
    "nc: 2\nch: 1\nbackbone:\n  - [-1, 1, DWConv, [8, 3, 2]]\n  - [-1, 1, C3k2, [8, false, 0.5]]\n  - [-1, 1, SPPF, [8, 5]]\n  - [-1, 1, LightweightAttention, [4]]\n\
     head:\n  - [-1, 1, nn.Upsample, [null, 2, nearest]]\n  - [[-1, 0], 1, Concat, [1]]\n  - [-1, 1, Classify, [nc]]\n",
    "nc: 4\nreg_max: 1\nend2end: true\nactivation: nn.ReLU()\nbackbone:\n  - [-1, 1, Conv, [16, 3, 2, 1, 1, 1, relu]]\n  - [-1, 1, ELAN1, [16, 16, 8]]\n\
     \x20 - [-1, 1, ADown, [16]]\n  - [-1, 1, A2C2f, [32, true, 1]]\nhead:\n  - [-1, 1, RepNCSPELAN4, [16, 16, 8, 1]]\n  - [[4], 1, v10Detect, [nc]]\n",
    "nc: 1\nkpt_shape: [5, 3]\nanchors:\n  - [10,13, 16,30]\nbackbone:\n  - &a [-1, 1, HGStem, [8, 16]]\n  - [-1, 1, HGBlock, [8, 16, 3, 2]]\n  - [-1, 1, AIFI, [64, 4]]\nhead:\n  - [[2], 1, Pose, [nc]]\n",
];

pub const COCO: &[&str] = &[
    "{\"images\":[{\"id\":1,\"file_name\":\"0.png\",\"width\":16,\"height\":16}],\"annotations\":[{\"id\":1,\"image_id\":1,\"category_id\":7,\
     \"bbox\":[1,1,2,2],\"area\":4,\"iscrowd\":0}],\"categories\":[{\"id\":7,\"name\":\"a\"}]}",
    "{\"images\":[{\"id\":1,\"file_name\":\"0.png\",\"width\":16,\"height\":16}],\"annotations\":[{\"id\":1,\"image_id\":1,\"category_id\":1,\
     \"bbox\":[1,1,2,2],\"segmentation\":[[1,1,3,1,3,3]],\"keypoints\":[1,1,2],\"num_keypoints\":1},{\"id\":2,\"image_id\":1,\"category_id\":1,\
     \"bbox\":[0,0,4,4],\"iscrowd\":1,\"segmentation\":{\"size\":[4,4],\"counts\":[3,2,11]}},{\"id\":3,\"image_id\":1,\"category_id\":1,\"bbox\":\
     [0,0,1,1],\"iscrowd\":1,\"segmentation\":{\"size\":[4,4],\"counts\":\"04b0\"}}],\"categories\":[{\"id\":1,\"name\":\"a\",\"keypoints\":[\"k\"],\
     \"skeleton\":[]}]}",
];

/// Annotations in COCO's form.
pub fn coco(bytes: &[u8]) {
    if leaves(bytes) {
        return;
    }
    files::write("coco/images/0.png", &picture());
    files::write("coco/0.png", &picture());
    open(&files::write("coco/annotations.json", bytes));
}

pub const VOC: &[&str] = &[
    "<annotation><folder>f</folder><filename>0.png</filename><size><width>16</width><height>16</height><depth>3</depth></size><object><name>a</name>\
     <difficult>0</difficult><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax></bndbox></object></annotation>",
    "<?xml version=\"1.0\"?><!DOCTYPE a [<!ENTITY b \"c\">]><annotation><filename>0.png</filename><object><name>&b;</name><bndbox><xmin>-1e9</xmin>\
     <ymin>1.5</ymin><xmax>nan</xmax><ymax>3</ymax></bndbox><part><name>h</name></part></object></annotation>",
];

/// An annotation in Pascal VOC's form.
pub fn voc(bytes: &[u8]) {
    files::write("voc/JPEGImages/0.png", &picture());
    files::write("voc/ImageSets/Main/train.txt", b"0\n");
    files::write("voc/Annotations/0.xml", bytes);
    open(&files::folder().join("voc"));
}

/// An image of any format.
pub fn image(bytes: &[u8]) {
    let ending = match bytes {
        [0x89, ..] => "png",
        [0xff, ..] => "jpg",
        [b'B', ..] => "bmp",
        [b'R', ..] => "webp",
        _ => "tiff",
    };
    let path = files::write(&format!("image.{ending}"), bytes);
    if let Some((width, height)) = checked(image_size(&path)) {
        // Large images take their time.
        if u64::from(width) * u64::from(height) > 1 << 22 {
            return;
        }
    }
    if checked(read_image(&path)).is_some() {
        judge::through();
    }
}

/// A small image in each format that is read.
pub fn images() -> Vec<Vec<u8>> {
    let image = image::RgbImage::from_fn(9, 7, |x, y| image::Rgb([x as u8 * 20, y as u8 * 30, 77]));
    let formats =
        [image::ImageFormat::Png, image::ImageFormat::Jpeg, image::ImageFormat::Bmp, image::ImageFormat::WebP, image::ImageFormat::Tiff];
    let encoded = formats.into_iter().filter_map(|format| {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).ok().map(|()| bytes.into_inner())
    });
    encoded.collect()
}
