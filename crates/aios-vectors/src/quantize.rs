//! Vectors of unit length, rounded to bytes.

use crate::error::VectorError;

/// Most dimensions: what the sums of the kernels have room for.
pub(crate) const DIMENSIONS_MAX: usize = 4096;

/// Numbers of a row in memory are a multiple of this: it is what the kernels take.
const STEP: usize = aios_kernels::LANES;

/// Numbers of a row in memory, of which those behind the last dimension are 0.
pub(crate) fn width(dimensions: usize) -> usize {
    dimensions.next_multiple_of(STEP)
}

/// A vector as it is stored: each number times `scale`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Vector {
    pub(crate) scale: f32,
    pub(crate) numbers: Box<[i8]>,
}

impl Vector {
    /// `values` at unit length, rounded.
    pub(crate) fn new(values: &[f32], dimensions: usize) -> Result<Vector, VectorError> {
        let unit = unit(values, dimensions)?;
        let step = largest(&unit) / 127.0;
        let numbers: Box<[i8]> = unit.iter().map(|value| round(value / step)).collect();
        // The scale with the least squared error, which is not quite that of rounding.
        let [mut product, mut square] = [0.0; 2];
        for (value, number) in unit.iter().zip(&numbers) {
            let number = f32::from(*number);
            product += value * number;
            square += number * number;
        }
        Ok(Vector { scale: product / square, numbers })
    }
}

/// What is searched for, and how it is compared: as bytes, and with a second row of what rounding to bytes left.
#[derive(Debug)]
pub(crate) struct Query {
    /// At unit length, with zeros up to the width.
    pub(crate) values: Vec<f32>,
    pub(crate) high: Vec<i8>,
    pub(crate) low: Vec<i8>,
    pub(crate) high_scale: f32,
    pub(crate) low_scale: f32,
}

impl Query {
    pub(crate) fn new(values: &[f32], dimensions: usize) -> Result<Query, VectorError> {
        let mut values = unit(values, dimensions)?;
        values.resize(width(dimensions), 0.0);
        let high_scale = largest(&values) / 127.0;
        let low_scale = high_scale / 254.0;
        let high: Vec<i8> = values.iter().map(|value| round(value / high_scale)).collect();
        let rest = |(value, high): (&f32, &i8)| round((value - f32::from(*high) * high_scale) / low_scale);
        let low = values.iter().zip(&high).map(rest).collect();
        Ok(Query { values, high, low, high_scale, low_scale })
    }
}

/// `values` at unit length.
fn unit(values: &[f32], dimensions: usize) -> Result<Vec<f32>, VectorError> {
    if values.len() != dimensions {
        return Err(VectorError::Dimensions { expected: dimensions, found: values.len() });
    }
    if let Some(position) = values.iter().position(|value| !value.is_finite()) {
        return Err(VectorError::NotFinite { position });
    }
    // In double precision, no square of a single-precision number overflows, and none but that of 0 is 0.
    let length = values.iter().map(|value| f64::from(*value) * f64::from(*value)).sum::<f64>().sqrt();
    if length == 0.0 {
        return Err(VectorError::Zero);
    }
    Ok(values.iter().map(|value| (f64::from(*value) / length) as f32).collect())
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |largest, value| value.abs().max(largest))
}

fn round(value: f32) -> i8 {
    value.round().clamp(-127.0, 127.0) as i8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_without_a_direction_or_of_another_size_are_refused() {
        let refused = |values: &[f32]| (Vector::new(values, 3).unwrap_err(), Query::new(values, 3).unwrap_err());
        for (values, error) in [
            (&[1.0, 2.0][..], VectorError::Dimensions { expected: 3, found: 2 }),
            (&[1.0, f32::NAN, 1.0], VectorError::NotFinite { position: 1 }),
            (&[1.0, 1.0, f32::NEG_INFINITY], VectorError::NotFinite { position: 2 }),
            (&[0.0, -0.0, 0.0], VectorError::Zero),
        ] {
            assert_eq!(refused(values), (error.clone(), error));
        }
    }

    #[test]
    fn vectors_of_any_finite_length_are_taken() {
        for factor in [f32::MIN_POSITIVE, 1e-45, 1.0, f32::MAX] {
            let vector = Vector::new(&[factor, -factor, 0.0], 3).unwrap();
            assert_eq!(*vector.numbers, [127, -127, 0], "{factor}");
            assert!((vector.scale * 127.0 - 0.5f32.sqrt()).abs() < 1e-6, "{factor}: {}", vector.scale);
        }
    }

    #[test]
    fn a_query_keeps_what_rounding_to_bytes_leaves() {
        let values: Vec<f32> = (0..100).map(|index| (index as f32 * 0.7).sin()).collect();
        let query = Query::new(&values, 100).unwrap();
        assert_eq!(query.high.len(), 112);
        for (index, value) in query.values.iter().enumerate() {
            let found = f32::from(query.high[index]) * query.high_scale + f32::from(query.low[index]) * query.low_scale;
            assert!((found - value).abs() < 6e-6, "{index}: {found} and {value}");
        }
    }
}
