//! The models that the library builds by name.

use super::yaml::{Architecture, Value, parse};
use compresso_base::error::Result;

/// Models that share an architecture file, in several sizes: `prefix`, scale, `suffix` make a name.
pub struct Family {
    prefix: &'static str,
    suffix: &'static str,
    about: &'static str,
    text: &'static str,
    scales: &'static [&'static str],
    /// The head in place of the file's: module, arguments, number of classes.
    head: Option<(&'static str, &'static [Value], usize)>,
}

const SIZES: &[&str] = &["n", "s", "m", "l", "x"];

const YOLOV8: Family = family("yolov8", "", "YOLOv8 detector", include_str!("arch/yolov8.yaml"), SIZES);
const YOLO11: Family = family("yolo11", "", "YOLO11 detector", include_str!("arch/yolo11.yaml"), SIZES);
const YOLO26: Family = family("yolo26", "", "YOLO26 detector without suppression", include_str!("arch/yolo26.yaml"), SIZES);

/// Arguments of heads: classes, which the model knows; prototypes of masks, and their width before scaling.
const CLASSES: &[Value] = &[Value::Null];
const MASKS: &[Value] = &[Value::Null, Value::Int(32), Value::Int(256)];

const FAMILIES: &[Family] = &[
    YOLOV8,
    YOLO11,
    family("yolov5", "u", "YOLOv5 detector with an anchor-free head", include_str!("arch/yolov5u.yaml"), SIZES),
    family("yolov5", "", "YOLOv5 detector with anchors", include_str!("arch/yolov5.yaml"), SIZES),
    family("mobile_yolo", "", "detector of depthwise separable blocks", include_str!("arch/mobile_yolo.yaml"), &["", "-n", "-s"]),
    family("yolov8", "-cls", "YOLOv8 classifier", include_str!("arch/yolov8-cls.yaml"), SIZES),
    family("yolo11", "-cls", "YOLO11 classifier", include_str!("arch/yolo11-cls.yaml"), SIZES),
    family("yolo12", "", "YOLO12 detector with area attention", include_str!("arch/yolo12.yaml"), SIZES),
    family("yolo12", "-cls", "YOLO12 classifier", include_str!("arch/yolo12-cls.yaml"), SIZES),
    YOLO26,
    family("yolo26", "-cls", "YOLO26 classifier", include_str!("arch/yolo26-cls.yaml"), SIZES),
    family("yolov10n", "", "YOLOv10 detector without suppression, nano", include_str!("arch/yolov10n.yaml"), &[""]),
    family("yolov10s", "", "YOLOv10 detector without suppression, small", include_str!("arch/yolov10s.yaml"), &[""]),
    family("yolov10m", "", "YOLOv10 detector without suppression, medium", include_str!("arch/yolov10m.yaml"), &[""]),
    family("yolov10b", "", "YOLOv10 detector without suppression, balanced", include_str!("arch/yolov10b.yaml"), &[""]),
    family("yolov10l", "", "YOLOv10 detector without suppression, large", include_str!("arch/yolov10l.yaml"), &[""]),
    family("yolov10x", "", "YOLOv10 detector without suppression, extra large", include_str!("arch/yolov10x.yaml"), &[""]),
    family("yolov9t", "", "YOLOv9 detector, tiny", include_str!("arch/yolov9t.yaml"), &[""]),
    family("yolov9s", "", "YOLOv9 detector, small", include_str!("arch/yolov9s.yaml"), &[""]),
    family("yolov9m", "", "YOLOv9 detector, medium", include_str!("arch/yolov9m.yaml"), &[""]),
    family("yolov9c", "", "YOLOv9 detector, compact", include_str!("arch/yolov9c.yaml"), &[""]),
    family("yolov9e", "", "YOLOv9 detector, extended", include_str!("arch/yolov9e.yaml"), &[""]),
    family("rtdetr-l", "", "RT-DETR detector without suppression, large", include_str!("arch/rtdetr-l.yaml"), &[""]),
    YOLOV8.with("-seg", "YOLOv8 detector with masks", "Segment", MASKS, 80),
    YOLOV8.with("-pose", "YOLOv8 detector of people with key points", "Pose", CLASSES, 1),
    YOLOV8.with("-obb", "YOLOv8 detector of turned boxes", "OBB", CLASSES, 80),
    YOLO11.with("-seg", "YOLO11 detector with masks", "Segment", MASKS, 80),
    YOLO11.with("-pose", "YOLO11 detector of people with key points", "Pose", CLASSES, 1),
    YOLO11.with("-obb", "YOLO11 detector of turned boxes", "OBB", CLASSES, 80),
    YOLO26.with("-seg", "YOLO26 detector with masks", "Segment26", MASKS, 80),
    YOLO26.with("-pose", "YOLO26 detector of people with key points", "Pose26", CLASSES, 1),
    YOLO26.with("-obb", "YOLO26 detector of turned boxes", "OBB26", CLASSES, 80),
    family("resnet18", "", "residual network of 18 layers", include_str!("arch/resnet18.yaml"), &[""]),
    family("resnet34", "", "residual network of 34 layers", include_str!("arch/resnet34.yaml"), &[""]),
    family("resnet50", "", "residual network of 50 layers", include_str!("arch/resnet50.yaml"), &[""]),
    family("mobilenet_v2", "", "MobileNetV2 classifier", include_str!("arch/mobilenet_v2.yaml"), &[""]),
    family("classifier", "", "small image classifier of YOLOv8 blocks", include_str!("arch/classifier.yaml"), &[""]),
];

const fn family(
    prefix: &'static str,
    suffix: &'static str,
    about: &'static str,
    text: &'static str,
    scales: &'static [&'static str],
) -> Family {
    Family { prefix, suffix, about, text, scales, head: None }
}

impl Family {
    const fn with(self, suffix: &'static str, about: &'static str, module: &'static str, args: &'static [Value], classes: usize) -> Self {
        Self { suffix, about, head: Some((module, args, classes)), ..self }
    }
    /// The architecture of its file, with its head.
    pub fn architecture(&self) -> Result<Architecture> {
        let mut arch = parse(self.text)?;
        if let (Some((module, args, classes)), Some(last)) = (self.head, arch.layers.last_mut()) {
            last.module = module.to_string();
            last.args = args.to_vec();
            arch.classes = classes;
        }
        Ok(arch)
    }
}

/// Names that [`build`](super::build()) knows, with what they are.
pub fn names() -> impl Iterator<Item = (String, String)> {
    FAMILIES.iter().flat_map(|f| {
        f.scales.iter().map(|scale| {
            let size = match scale.trim_start_matches('-') {
                "n" => ", nano",
                "s" => ", small",
                "m" => ", medium",
                "l" => ", large",
                "x" => ", extra large",
                _ => "",
            };
            (format!("{}{scale}{}", f.prefix, f.suffix), format!("{}{size}", f.about))
        })
    })
}

/// The family of a name, and the scale.
pub fn lookup(name: &str) -> Option<(&'static Family, &'static str)> {
    FAMILIES.iter().find_map(|f| {
        let scale = name.strip_prefix(f.prefix)?.strip_suffix(f.suffix)?;
        f.scales.iter().find(|s| **s == scale).map(|s| (f, s.trim_start_matches('-')))
    })
}
