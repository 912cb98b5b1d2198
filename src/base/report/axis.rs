//! Axes: ranges and ticks, shared by drawn and text plots.

use super::{Plot, SeriesKind, number};

/// One axis of a plot. `position` is linear in the drawn length.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    /// Range in positions.
    pub low: f64,
    pub high: f64,
    /// Positions and texts.
    pub ticks: Vec<(f64, String)>,
    log: bool,
}

impl Axis {
    /// The horizontal axis: bars with labels give one tick per bar.
    pub fn x(plot: &Plot, wanted: usize) -> Self {
        let values = || plot.series.iter().flat_map(|s| s.points.iter().map(|p| p.0));
        let mut axis = Self::new(values(), plot.log_x, wanted, false);
        if let Some(bars) = plot.series.iter().find(|s| s.kind == SeriesKind::Bars && !plot.log_x) {
            axis.low = values().fold(f64::INFINITY, f64::min) - 0.6;
            axis.high = values().fold(f64::NEG_INFINITY, f64::max) + 0.6;
            if !bars.labels.is_empty() {
                axis.ticks = bars.points.iter().zip(&bars.labels).map(|(p, l)| (p.0, l.clone())).collect();
            }
        }
        axis
    }
    /// The vertical axis; bars start at zero.
    pub fn y(plot: &Plot, wanted: usize) -> Self {
        let bars = plot.series.iter().any(|s| s.kind == SeriesKind::Bars);
        Self::new(plot.series.iter().flat_map(|s| s.points.iter().map(|p| p.1)), plot.log_y, wanted, bars)
    }

    /// The position at which bars begin: zero, or the lower end of a logarithmic axis.
    pub fn bar_base(&self) -> f64 {
        if self.log { self.low } else { self.low.max(0.0).min(self.high) }
    }

    fn new(values: impl Iterator<Item = f64>, log: bool, wanted: usize, zero: bool) -> Self {
        let mut low = f64::INFINITY;
        let mut high = f64::NEG_INFINITY;
        for v in values.filter(|v| v.is_finite() && (!log || *v > 0.0)) {
            low = low.min(v);
            high = high.max(v);
        }
        if low > high {
            (low, high) = if log { (1.0, 10.0) } else { (0.0, 1.0) };
        }
        if log { Self::logarithmic(low, high, wanted) } else { Self::linear(low, high, wanted, zero) }
    }

    fn linear(mut low: f64, mut high: f64, wanted: usize, zero: bool) -> Self {
        if zero {
            low = low.min(0.0);
            high = high.max(0.0);
        }
        if low == high {
            let pad = if low == 0.0 { 1.0 } else { low.abs() * 0.1 };
            low -= pad;
            high += pad;
        }
        let pad = (high - low) * 0.06;
        let padded_low = if zero && low == 0.0 { 0.0 } else { low - pad };
        // Do not show negative numbers for a quantity that has none.
        let padded_low = if low >= 0.0 { padded_low.max(0.0) } else { padded_low };
        let padded_high = if zero && high == 0.0 { 0.0 } else { high + pad };
        let ticks = nice_ticks(padded_low, padded_high, wanted);
        Self { low: padded_low, high: padded_high, ticks, log: false }
    }

    fn logarithmic(low: f64, high: f64, wanted: usize) -> Self {
        let (mut a, mut b) = (low.log10(), high.log10());
        if b - a < 0.1 {
            (a, b) = (a - 0.15, b + 0.15);
        }
        let pad = (b - a) * 0.06;
        let (a, b) = (a - pad, b + pad);
        let mut ticks: Vec<(f64, String)> = Vec::new();
        let decades = (b - a).ceil();
        let every = (decades / wanted.max(1) as f64).ceil().max(1.0) as i32;
        let steps: &[f64] = if decades <= 1.0 {
            &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0]
        } else if decades <= 3.0 {
            &[1.0, 2.0, 5.0]
        } else {
            &[1.0]
        };
        for power in (a.floor() as i32)..=(b.ceil() as i32) {
            if power.rem_euclid(every) != 0 {
                continue;
            }
            for step in steps {
                let v = step * 10f64.powi(power);
                if (a..=b).contains(&v.log10()) {
                    ticks.push((v.log10(), number(v)));
                }
            }
        }
        if ticks.len() < 2 {
            ticks = nice_ticks(10f64.powf(a), 10f64.powf(b), wanted).into_iter().map(|(v, t)| (v.log10(), t)).collect();
        }
        Self { low: a, high: b, ticks, log: true }
    }

    /// Position of a value, or `None` for one that the axis cannot show (NaN, zero on a log axis).
    pub fn position(&self, value: f64) -> Option<f64> {
        let p = if self.log { value.log10() } else { value };
        p.is_finite().then_some(p)
    }
    /// Share of the axis at a position, 0 to 1.
    pub fn share(&self, position: f64) -> f64 {
        (position - self.low) / (self.high - self.low)
    }
}

/// Ticks at multiples of 1, 2, 2.5 or 5 times a power of ten, about `wanted` of them.
fn nice_ticks(low: f64, high: f64, wanted: usize) -> Vec<(f64, String)> {
    let rough = (high - low) / wanted.max(2) as f64;
    let base = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].iter().map(|m| m * base).find(|s| *s >= rough * 0.8).unwrap_or(base * 10.0);
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    let decimals = (0..=12).find(|d| {
        let scaled = step * 10f64.powi(*d);
        (scaled - scaled.round()).abs() < 1e-6 * scaled
    });
    (first..=last)
        .map(|i| {
            let v = i as f64 * step;
            let text = match decimals {
                Some(d) if high.abs().max(low.abs()) < 1e6 && step >= 1e-6 => format!("{v:.*}", usize::try_from(d).unwrap_or(0)),
                _ => number(v),
            };
            (v, text)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|t| t.1.as_str()).collect()
    }

    #[test]
    fn linear_ticks_are_round() {
        assert_eq!(texts(&Axis::linear(0.0, 1.0, 5, false)), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(texts(&Axis::linear(3.0, 47.0, 5, false)), ["10", "20", "30", "40"]);
        assert_eq!(texts(&Axis::linear(0.80, 0.83, 4, false)), ["0.80", "0.81", "0.82", "0.83"]);
        assert!(Axis::linear(5.0, 5.0, 4, false).ticks.len() >= 2);
        assert_eq!(Axis::linear(2.0, 10.0, 4, true).low, 0.0);
    }

    #[test]
    fn log_ticks_are_decades_or_round_steps() {
        assert_eq!(texts(&Axis::logarithmic(1.0, 1000.0, 5)), ["1", "10", "100", "1000"]);
        assert_eq!(texts(&Axis::logarithmic(20.0, 90.0, 5)), ["20", "30", "40", "50", "60", "80"]);
        assert!(Axis::logarithmic(44.0, 45.0, 5).ticks.len() >= 2);
        assert_eq!(Axis::logarithmic(1.0, 10.0, 5).position(0.0), None);
    }

    #[test]
    fn values_that_cannot_be_shown_do_not_break_the_range() {
        let axis = Axis::new([f64::NAN, f64::INFINITY].into_iter(), false, 5, false);
        assert!(axis.low < axis.high);
    }
}
