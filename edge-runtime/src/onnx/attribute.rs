//! Attributes of nodes.

use super::pb;

/// Attribute `name` of `node`.
pub fn attribute<'a>(node: &'a pb::NodeProto, name: &str) -> Option<&'a pb::AttributeProto> {
    node.attribute.iter().find(|a| a.name == name)
}

/// Integer attribute `name` of `node`, or `default`.
pub fn int_or(node: &pb::NodeProto, name: &str, default: i64) -> i64 {
    attribute(node, name).map_or(default, |a| a.i)
}

/// Integers attribute `name` of `node`, or `default`.
pub fn ints_or(node: &pb::NodeProto, name: &str, default: &[i64]) -> Vec<i64> {
    attribute(node, name).map_or(default.to_vec(), |a| a.ints.clone())
}
