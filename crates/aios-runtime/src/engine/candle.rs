//! Engine on candle.
