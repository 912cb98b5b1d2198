//! Evaluation: boxes, non-maximum suppression, mean average precision, classification accuracy; prediction.
