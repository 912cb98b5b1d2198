//! Lines, dots and translucent areas on images. What lies outside of an image is cut; what is not finite is not drawn.

use super::marks::fill;
use image::RgbImage;
use std::ops::Range;

/// Mixes a colour into pixels of one column: `share` 0 leaves them, 1 replaces them.
pub fn tint(image: &mut RgbImage, column: u32, rows: Range<u32>, color: [u8; 3], share: f32) {
    if column >= image.width() {
        return;
    }
    for y in rows.start..rows.end.min(image.height()) {
        for (under, over) in image.get_pixel_mut(column, y).0.iter_mut().zip(color) {
            let (a, b) = (f32::from(*under), f32::from(over));
            *under = (a + (b - a) * share + 0.5) as u8;
        }
    }
}

/// A straight line, `width` pixels wide.
pub fn draw_line(image: &mut RgbImage, from: [f32; 2], to: [f32; 2], width: u32, color: [u8; 3]) {
    let margin = f64::from(width);
    let room = [f64::from(image.width()) + margin, f64::from(image.height()) + margin];
    let start = from.map(f64::from);
    let way = [f64::from(to[0]) - start[0], f64::from(to[1]) - start[1]];
    if start.iter().chain(&way).any(|v| !v.is_finite()) {
        return;
    }
    // The part of the way that lies on the image.
    let (mut first, mut last) = (0f64, 1f64);
    for axis in 0..2 {
        if way[axis] == 0.0 {
            if !(-margin..=room[axis]).contains(&start[axis]) {
                return;
            }
            continue;
        }
        let ends = [(-margin - start[axis]) / way[axis], (room[axis] - start[axis]) / way[axis]];
        first = first.max(ends[0].min(ends[1]));
        last = last.min(ends[0].max(ends[1]));
    }
    if first > last {
        return;
    }
    let length = way[0].abs().max(way[1].abs()) * (last - first);
    let steps = length.ceil().max(1.0) as u64;
    let before = (i64::from(width) - 1) / 2;
    for i in 0..=steps {
        let t = first + (last - first) * i as f64 / steps as f64;
        let [x, y] = std::array::from_fn(|axis| (start[axis] + way[axis] * t).round() as i64 - before);
        fill(image, [x, y, x + i64::from(width) - 1, y + i64::from(width) - 1], color);
    }
}

/// A filled circle.
pub fn draw_dot(image: &mut RgbImage, [x, y]: [f32; 2], radius: f32, color: [u8; 3]) {
    if ![x, y, radius].iter().all(|v| v.is_finite()) {
        return;
    }
    let pixels = |at: f32, end: u32| {
        let side = |v: f32| v.round().clamp(0.0, end as f32) as u32;
        side(at - radius)..side(at + radius + 1.0)
    };
    for row in pixels(y, image.height()) {
        for column in pixels(x, image.width()) {
            let off = [column as f32 + 0.5 - x, row as f32 + 0.5 - y];
            if off[0].hypot(off[1]) <= radius {
                image.put_pixel(column, row, image::Rgb(color));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    fn painted(draw: impl Fn(&mut RgbImage)) -> Vec<(u32, u32)> {
        let mut image = RgbImage::new(12, 8);
        draw(&mut image);
        image.enumerate_pixels().filter(|(_, _, p)| p.0 != [0; 3]).map(|(x, y, _)| (x, y)).collect()
    }

    #[test]
    fn lines_join_their_ends_and_are_cut() {
        let ink = [9, 9, 9];
        assert_eq!(painted(|i| draw_line(i, [2.0, 3.0], [5.0, 3.0], 1, ink)), [(2, 3), (3, 3), (4, 3), (5, 3)]);
        let slope = painted(|i| draw_line(i, [7.0, 6.0], [4.0, 0.0], 1, ink));
        assert!(slope.len() == 7 && slope.contains(&(4, 0)) && slope.contains(&(7, 6)), "{slope:?}");
        assert_eq!(painted(|i| draw_line(i, [4.0, 4.0], [4.0, 4.0], 3, ink)).len(), 9);
        // Far outside, through the image, along its diagonal: in no time.
        let far = painted(|i| draw_line(i, [-1e9, -1e9], [1e9, 1e9], 1, ink));
        assert_eq!(far, (0..8).map(|v| (v, v)).collect::<Vec<_>>());
        for (a, b) in
            [([-9.0, 2.0], [-9.0, 5.0]), ([0.0, f32::NAN], [3.0, 3.0]), ([f32::INFINITY, 0.0], [3.0, 3.0]), ([30.0, 2.0], [90.0, 3.0])]
        {
            assert!(painted(|i| draw_line(i, a, b, 2, ink)).is_empty(), "{a:?} {b:?}");
        }
    }

    #[test]
    fn dots_are_round_and_tints_leave_what_is_below() {
        let ink = [9, 9, 9];
        let round = painted(|i| draw_dot(i, [5.0, 4.0], 3.0, ink));
        assert!(round.len() > 20 && round.contains(&(2, 4)) && !round.contains(&(2, 1)), "{round:?}");
        assert!(painted(|i| draw_dot(i, [f32::NAN, 4.0], 3.0, ink)).is_empty());
        assert!(painted(|i| draw_dot(i, [-100.0, 1e30], 3.0, ink)).is_empty());
        let mut image = RgbImage::from_pixel(3, 3, Rgb([100, 0, 200]));
        tint(&mut image, 1, 1..9, [200, 100, 0], 0.5);
        tint(&mut image, 7, 0..3, [0; 3], 0.5);
        assert_eq!(
            [image.get_pixel(1, 0).0, image.get_pixel(1, 1).0, image.get_pixel(1, 2).0],
            [[100, 0, 200], [150, 50, 100], [150, 50, 100]]
        );
    }
}
