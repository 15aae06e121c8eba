//! The messages of a plan, for [`crate::wire`]: numbers of fields are those of the structs.

use super::{
    Attribute, Buffer, CompileOptions, Dimension, EntryPoint, Load, LoraOptions, ModelConfig, Partition,
    Plan, Prediction, Step, Target, TargetLayers,
};
use crate::wire::{Field, Layout};

/// A kind of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Plan,
    /// A plan of which only the options are decoded.
    OptionsOnly,
    Options,
    Model,
    Lora,
    Layers,
    Target,
    Buffer,
    Dimension,
    Entry,
    Step,
    Attribute,
    Partition,
    Load,
    Prediction,
}

impl Layout for Kind {
    fn field(self, number: usize) -> Field<Kind> {
        use Kind::*;
        match (self, number) {
            (Plan | OptionsOnly, 3) => Field::One(Options),
            (Plan, 4) => Field::Many(Buffer),
            (Plan, 5) => Field::Many(Entry),
            (Plan, 9) | (Lora, 4) => Field::Texts,
            (Plan, 11) => Field::One(Prediction),
            (Options, 1) => Field::One(Model),
            (Options, 2) => Field::One(Lora),
            (Options, 9) => Field::One(Target),
            (Lora, 6) => Field::Many(Layers),
            (Buffer, 4) => Field::Many(Dimension),
            (Entry, 2) => Field::Many(Step),
            (Entry, 4) => Field::Many(Load),
            (Step, 2) => Field::Many(Attribute),
            (Step, 5) => Field::One(Partition),
            (Step, 3 | 4 | 9) => Field::Int32s,
            (Layers, 2) => Field::Int64s,
            _ => Field::Text,
        }
    }

    fn size(self) -> usize {
        match self {
            Kind::Plan => size_of::<Plan>(),
            Kind::OptionsOnly | Kind::Options => size_of::<CompileOptions>(),
            Kind::Model => size_of::<ModelConfig>(),
            Kind::Lora => size_of::<LoraOptions>(),
            Kind::Layers => size_of::<TargetLayers>(),
            Kind::Target => size_of::<Target>(),
            Kind::Buffer => size_of::<Buffer>(),
            Kind::Dimension => size_of::<Dimension>(),
            Kind::Entry => size_of::<EntryPoint>(),
            Kind::Step => size_of::<Step>(),
            Kind::Attribute => size_of::<Attribute>(),
            Kind::Partition => size_of::<Partition>(),
            Kind::Load => size_of::<Load>(),
            Kind::Prediction => size_of::<Prediction>(),
        }
    }
}
