//! The types of functions: what a module has, and what the ABI asks for.

use core::fmt;

use tollgate_abi::{Arity, Served};
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

    /// How a module has to declare an import that is served.
    pub fn of_import(served: Served) -> Self {
        let words = served.words().into_iter();
        let params = words.map(|wide| if wide { ValueType::I64 } else { ValueType::I32 });
        Self {
            params: params.collect(),
            results: vec![ValueType::I32; usize::from(served.returns())],
        }
    }

    /// How Envoy writes it.
    pub(crate) fn in_words_of_envoy(&self) -> String {
        let list = |types: &[ValueType]| match types {
            [] => "void".into(),
            _ => types.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        };
        format!("{} -> {}", list(&self.params), list(&self.results))
    }

    /// A function of 32-bit words only.
    pub(crate) fn of_words(params: usize, results: usize) -> Self {
        Self { params: vec![ValueType::I32; params], results: vec![ValueType::I32; results] }
    }
}

impl From<Arity> for Signature {
    fn from(arity: Arity) -> Self {
        Self::of_words(arity.params, arity.results)
    }
}

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

    use tollgate_abi::{AbiVersion, CallbackKind};

    #[test]
    fn a_host_function_takes_its_words_and_returns_a_status() {
        let check = |module, name, expected: &str| {
            let served = Served::from_import(module, name, AbiVersion::V0_2_1).unwrap();
            assert_eq!(Signature::of_import(served).to_string(), expected);
        };
        check("env", "proxy_log", "(i32, i32, i32) -> i32");
        check("env", "proxy_done", "() -> i32");
        check("env", "proxy_increment_metric", "(i32, i64) -> i32");
        check("wasi_unstable", "clock_time_get", "(i32, i64, i32) -> i32");
        check("wasi_unstable", "proc_exit", "(i32)");
        check("wasi_unstable", "fd_close", "(i32) -> i32");
        check("env", "emscripten_notify_memory_growth", "(i32)");
    }

    #[test]
    fn a_callback_takes_its_context_first() {
        let check = |callback: CallbackKind, abi, expected: &str| {
            assert_eq!(Signature::from(callback.arity(abi)).to_string(), expected);
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
