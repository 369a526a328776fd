//! Numbers of 16 bits as their bits: half precision (IEEE 754 binary16), and the upper half of single precision.

/// The value of `bits`.
#[inline(always)]
pub(crate) fn to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let rest = u32::from(bits & 0x7fff);
    // Exponent and mantissa moved to their places in an f32 give the value divided by 2^112, subnormals included.
    let scaled = f32::from_bits(rest << 13) * f32::from_bits(0x7780_0000);
    let infinite = if rest >= 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(sign | scaled.to_bits() | infinite)
}

/// The number whose upper half is `bits` (bfloat16).
#[inline(always)]
pub(crate) fn from_upper(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The nearest half-precision number, ties to even; beyond the largest one, infinity.
#[inline(always)]
pub(crate) fn from_f32(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let magnitude = bits & 0x7fff_ffff;
    if magnitude >= 0x7f80_0000 {
        return sign | 0x7c00 | if magnitude > 0x7f80_0000 { 0x200 } else { 0 };
    }
    if magnitude >= 0x4780_0000 {
        return sign | 0x7c00;
    }
    if magnitude < 0x3880_0000 {
        // Subnormal: adding 0.5 leaves the rounded multiple of 2^-24 in the low bits.
        let sum = f32::from_bits(magnitude) + 0.5;
        return sign | (sum.to_bits() - 0x3f00_0000) as u16;
    }
    let odd = (magnitude >> 13) & 1;
    let rounded = magnitude + 0x0fff + odd - 0x3800_0000;
    sign | (rounded >> 13) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_precision_number_survives_the_way_there_and_back() {
        for bits in 0..=u16::MAX {
            let value = to_f32(bits);
            if value.is_nan() {
                assert!(to_f32(from_f32(value)).is_nan());
            } else {
                assert_eq!(from_f32(value), bits, "{value}");
            }
        }
    }

    #[test]
    fn known_values_convert() {
        for (bits, value) in
            [(0x3c00, 1.0), (0xc000, -2.0), (0x7bff, 65504.0), (0x0001, 2f32.powi(-24)), (0x0400, 2f32.powi(-14))]
        {
            assert_eq!(to_f32(bits), value);
        }
        assert_eq!(from_f32(65520.0), 0x7c00);
        assert_eq!(from_f32(65519.0), 0x7bff);
        assert_eq!(from_f32(1e-9), 0);
        assert_eq!(from_f32(-1.0 - 2f32.powi(-11)), 0xbc00, "a tie goes to the even neighbour");
    }
}
