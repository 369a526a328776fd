//! The growing side of a Merkle tree (RFC 6962).

use crate::hash::{self, Hash};

/// What has to be known of a tree to add leaves to it and to tell its root: the roots of its full subtrees, the largest
/// first. There is one for each 1 in the binary form of its size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

impl Frontier {
    /// Of the tree without leaves.
    pub fn new() -> Frontier {
        Frontier { size: 0, peaks: Vec::new() }
    }

    /// Reads the peaks of a tree with `size` leaves; `None` where there are not as many.
    pub fn from_bytes(size: u64, bytes: &[u8]) -> Option<Frontier> {
        let (peaks, rest) = bytes.as_chunks();
        (rest.is_empty() && peaks.len() == peaks_of(size)).then(|| Frontier { size, peaks: peaks.to_vec() })
    }

    /// The peaks, one after the other.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.peaks.concat()
    }

    /// The peaks.
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf.
    pub fn push(&mut self, leaf: Hash) {
        let mut node = leaf;
        for _ in 0..self.size.trailing_ones() {
            let left = self.peaks.pop().expect("invariant: there is a peak for each 1 of the size");
            node = hash::node(&left, &node);
        }
        self.peaks.push(node);
        self.size += 1;
    }

    /// The root of the tree.
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev().copied();
        let Some(last) = peaks.next() else { return hash::empty() };
        peaks.fold(last, |right, left| hash::node(&left, &right))
    }
}

/// Number of peaks of a tree with `size` leaves.
pub(crate) fn peaks_of(size: u64) -> usize {
    size.count_ones() as usize
}

#[cfg(test)]
mod tests {
    use aios_keys::hex;
    use proptest::prelude::*;

    use super::*;

    /// RFC 6962, section 2.1, word by word.
    fn root(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => hash::empty(),
            [one] => *one,
            more => {
                let k = (more.len() as u64).next_power_of_two() as usize / 2;
                hash::node(&root(&more[..k]), &root(&more[k..]))
            }
        }
    }

    #[test]
    fn roots_are_those_of_the_reference_implementation() {
        // Leaves and roots of certificate-transparency's own test of RFC 6962.
        let leaves =
            ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut frontier = Frontier::new();
        assert_eq!(hex::encode(&frontier.root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        for (data, expected) in leaves.iter().zip(roots) {
            let data: Vec<u8> = data
                .as_bytes()
                .chunks(2)
                .map(|pair| hex::decode::<1>(str::from_utf8(pair).unwrap()).unwrap()[0])
                .collect();
            frontier.push(hash::leaf(&data));
            assert_eq!(hex::encode(&frontier.root()), expected);
        }
    }

    proptest! {
        #[test]
        fn the_root_is_that_of_the_definition_and_the_peaks_are_read_as_written(size in 0usize..200) {
            let leaves: Vec<Hash> = (0..size).map(|index| hash::leaf(&index.to_be_bytes())).collect();
            let mut frontier = Frontier::new();
            leaves.iter().for_each(|leaf| frontier.push(*leaf));
            prop_assert_eq!(frontier.root(), root(&leaves));
            prop_assert_eq!(Frontier::from_bytes(size as u64, &frontier.to_bytes()), Some(frontier.clone()));
            let bytes = frontier.to_bytes();
            prop_assert_eq!(Frontier::from_bytes(size as u64, &[&bytes[..], &[0]].concat()), None);
            prop_assert_eq!(Frontier::from_bytes(2 * size as u64 + 1, &bytes), None);
        }
    }
}
