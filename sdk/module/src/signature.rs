//! The types of functions: what a module has, and what the ABI asks for.

use core::fmt;

use tollgate_abi::{AbiVersion, CallbackKind, Function, Returns};
use wasmparser::{FuncType, ValType};

/// The type of one argument or result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// 32-bit integer: every number and every address of the ABI but the two below.
    I32,
    /// 64-bit integer: metric values and times.
    I64,
    /// 32-bit float.
    F32,
    /// 64-bit float.
    F64,
    /// 128-bit vector.
    V128,
    /// A reference of any kind; no function of the ABI takes one.
    Reference,
}

/// What a function takes and gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    params: Vec<ValueType>,
    results: Vec<ValueType>,
}

impl Signature {
    /// The arguments, in order.
    pub fn params(&self) -> &[ValueType] {
        &self.params
    }

    /// The results, in order.
    pub fn results(&self) -> &[ValueType] {
        &self.results
    }

    /// How a module has to declare the import `function`.
    pub fn of_function(function: Function) -> Self {
        let words = function.words().iter();
        let params = words.map(|&wide| if wide { ValueType::I64 } else { ValueType::I32 });
        Self {
            params: params.collect(),
            results: vec![ValueType::I32; usize::from(function.returns_status())],
        }
    }

    /// How a module of the version `abi` has to define the export `callback`.
    pub fn of_callback(callback: CallbackKind, abi: AbiVersion) -> Self {
        let returns = callback.returns();
        // 0.1.0 does not tell the end of the stream with the headers.
        let untold = abi == AbiVersion::V0_1_0 && returns == Returns::Headers;
        let arguments = arguments(callback).saturating_sub(usize::from(untold));
        Self::of_words(1 + arguments, usize::from(returns != Returns::Nothing))
    }

    /// A function of 32-bit words only.
    pub(crate) fn of_words(params: usize, results: usize) -> Self {
        Self { params: vec![ValueType::I32; params], results: vec![ValueType::I32; results] }
    }
}

macro_rules! define_arguments {
    ($( $(#[$doc:meta])* $name:ident = $variant:ident { $( $field:ident : $type:ty ),* } -> $returns:ident $rust:ty; )*) => {
        /// How many arguments follow the context.
        const fn arguments(callback: CallbackKind) -> usize {
            match callback { $(
                CallbackKind::$variant => { const NAMES: &[&str] = &[ $( stringify!($field) ),* ]; NAMES.len() }
            )* }
        }
    };
}

tollgate_abi::callbacks!(define_arguments);

impl From<&FuncType> for Signature {
    fn from(function: &FuncType) -> Self {
        let types = |types: &[ValType]| types.iter().map(ValueType::from).collect();
        Self { params: types(function.params()), results: types(function.results()) }
    }
}

impl From<&ValType> for ValueType {
    fn from(value: &ValType) -> Self {
        match value {
            ValType::I32 => Self::I32,
            ValType::I64 => Self::I64,
            ValType::F32 => Self::F32,
            ValType::F64 => Self::F64,
            ValType::V128 => Self::V128,
            ValType::Ref(_) => Self::Reference,
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::V128 => "v128",
            Self::Reference => "reference",
        })
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        commas(f, &self.params)?;
        f.write_str(")")?;
        if !self.results.is_empty() {
            f.write_str(" -> ")?;
            commas(f, &self.results)?;
        }
        Ok(())
    }
}

fn commas(f: &mut fmt::Formatter<'_>, types: &[ValueType]) -> fmt::Result {
    for (index, value) in types.iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        write!(f, "{value}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_function_takes_its_words_and_returns_a_status() {
        let check = |function, expected: &str| {
            assert_eq!(Signature::of_function(function).to_string(), expected);
        };
        check(Function::Log, "(i32, i32, i32) -> i32");
        check(Function::Done, "() -> i32");
        check(Function::IncrementMetric, "(i32, i64) -> i32");
        check(Function::ClockTimeGet, "(i32, i64, i32) -> i32");
        check(Function::ProcExit, "(i32)");
    }

    #[test]
    fn a_callback_takes_its_context_first() {
        let check = |callback, abi, expected: &str| {
            assert_eq!(Signature::of_callback(callback, abi).to_string(), expected);
        };
        let (old, new) = (AbiVersion::V0_1_0, AbiVersion::V0_2_1);
        check(CallbackKind::Log, new, "(i32)");
        check(CallbackKind::Done, new, "(i32) -> i32");
        check(CallbackKind::Configure, new, "(i32, i32) -> i32");
        check(CallbackKind::RequestHeaders, new, "(i32, i32, i32) -> i32");
        check(CallbackKind::RequestHeaders, old, "(i32, i32) -> i32");
        check(CallbackKind::RequestBody, old, "(i32, i32, i32) -> i32");
        check(CallbackKind::HttpCallResponse, new, "(i32, i32, i32, i32, i32)");
    }
}
