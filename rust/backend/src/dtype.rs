//! Element types, their promotion, and weak Python scalars.

use core::fmt;

use corten_kernels::half::Half;
pub use corten_kernels::half::{BF16, F16};

use crate::error::{Error, Result};

/// Element type of a tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE single precision, the default for floats.
    #[default]
    F32,
    /// IEEE double precision.
    F64,
    /// IEEE half precision: a way to store; operations calculate in float32 and round the result.
    F16,
    /// The upper half of a float32, with its range and 8 digits in base 2: a way to store, as float16.
    BF16,
    /// The default for integers.
    I64,
    /// 32-bit integer.
    I32,
    /// 16-bit integer.
    I16,
    /// 8-bit integer.
    I8,
    /// Unsigned 8-bit integer.
    U8,
    /// Truth value, stored as one byte that is 0 or 1.
    Bool,
}

impl DType {
    /// Every dtype.
    pub const ALL: [Self; 10] = [
        Self::F32,
        Self::F64,
        Self::F16,
        Self::BF16,
        Self::I64,
        Self::I32,
        Self::I16,
        Self::I8,
        Self::U8,
        Self::Bool,
    ];
    /// NumPy's name of it (bfloat16, which NumPy lacks: that of ml_dtypes).
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F64 => "float64",
            Self::F16 => "float16",
            Self::BF16 => "bfloat16",
            Self::I64 => "int64",
            Self::I32 => "int32",
            Self::I16 => "int16",
            Self::I8 => "int8",
            Self::U8 => "uint8",
            Self::Bool => "bool",
        }
    }
    /// The dtype of that name (`float32`, ..., `bool`).
    pub fn from_name(op: &'static str, name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|d| d.name() == name)
            .ok_or_else(|| {
                let known: Vec<_> = Self::ALL.iter().map(|d| d.name()).collect();
                Error::dtype(
                    op,
                    format!("unknown dtype '{name}' (known: {})", known.join(", ")),
                )
            })
    }
    /// Bytes per element.
    pub const fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::BF16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }
    /// A float: the types that have gradients.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64 | Self::F16 | Self::BF16)
    }
    /// float16 or bfloat16.
    pub const fn is_half(self) -> bool {
        matches!(self, Self::F16 | Self::BF16)
    }
    /// The type in which a device calculates with this one: float32 for the 16-bit floats, the type itself for all others.
    pub const fn arithmetic(self) -> Self {
        if self.is_half() { Self::F32 } else { self }
    }
    /// An integer, signed or not; bool is none.
    pub const fn is_int(self) -> bool {
        !self.is_float() && !matches!(self, Self::Bool)
    }
    /// The dtype in which two tensors meet: a float wins over any integer, the larger of two floats or integers wins,
    /// float16 with bfloat16 gives float32, uint8 with int8 gives int16, bool is lowest.
    pub const fn promote(self, other: Self) -> Self {
        if self as u8 == other as u8 {
            return self;
        }
        match (self, other) {
            (Self::F64, _) | (_, Self::F64) => Self::F64,
            (Self::F32, _) | (_, Self::F32) | (Self::F16, Self::BF16) | (Self::BF16, Self::F16) => {
                Self::F32
            }
            (Self::F16, _) | (_, Self::F16) => Self::F16,
            (Self::BF16, _) | (_, Self::BF16) => Self::BF16,
            (Self::I64, _) | (_, Self::I64) => Self::I64,
            (Self::I32, _) | (_, Self::I32) => Self::I32,
            (Self::I16, _) | (_, Self::I16) | (Self::I8, Self::U8) | (Self::U8, Self::I8) => {
                Self::I16
            }
            (Self::I8, _) | (_, Self::I8) => Self::I8,
            _ => Self::U8,
        }
    }
    /// The dtype in which a tensor of this dtype meets a Python scalar: the tensor's, unless the scalar is of a higher kind
    /// (float scalar with integers: float32; int scalar with bool: int64).
    pub const fn promote_scalar(self, s: Scalar) -> Self {
        match (self, s) {
            _ if self.is_float() => self,
            (_, Scalar::Float(_)) => Self::F32,
            (Self::Bool, Scalar::Int(_)) => Self::I64,
            _ => self,
        }
    }
    /// The float type in which integers divide: itself for floats, float32 for all others.
    pub const fn to_float(self) -> Self {
        if self.is_float() { self } else { Self::F32 }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A Python scalar. It is weak: it takes the dtype of the tensor that it meets ([`DType::promote_scalar`]).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar {
    /// `True` or `False`.
    Bool(bool),
    /// `int`
    Int(i64),
    /// `float`
    Float(f64),
}

impl Scalar {
    /// The dtype of a tensor made from it alone: bool, int64 or float32.
    pub const fn dtype(self) -> DType {
        match self {
            Self::Bool(_) => DType::Bool,
            Self::Int(_) => DType::I64,
            Self::Float(_) => DType::F32,
        }
    }
    /// The nearest float.
    pub fn to_f64(self) -> f64 {
        match self {
            Self::Bool(b) => f64::from(u8::from(b)),
            Self::Int(i) => i as f64,
            Self::Float(x) => x,
        }
    }
    /// As an integer, truncated toward zero.
    pub fn to_i64(self) -> i64 {
        match self {
            Self::Bool(b) => i64::from(b),
            Self::Int(i) => i,
            Self::Float(x) => x as i64,
        }
    }
    /// Not equal to zero.
    pub fn to_bool(self) -> bool {
        match self {
            Self::Bool(b) => b,
            Self::Int(i) => i != 0,
            Self::Float(x) => x != 0.0,
        }
    }
    /// Fails when a scalar does not fit the integer type that it would take: an integer outside its range, NaN or an infinity.
    pub fn check_fits(self, op: &'static str, dtype: DType) -> Result<()> {
        let i = match self {
            Self::Int(i) => i,
            Self::Float(x) if !x.is_finite() && !dtype.is_float() && dtype != DType::Bool => {
                return Err(Error::value(
                    op,
                    format!(
                        "the number {x} does not fit {dtype}; use a float dtype, e.g. dtype='float32'"
                    ),
                ));
            }
            _ => return Ok(()),
        };
        let (lo, hi) = match dtype {
            DType::I32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
            DType::I16 => (i64::from(i16::MIN), i64::from(i16::MAX)),
            DType::I8 => (i64::from(i8::MIN), i64::from(i8::MAX)),
            DType::U8 => (0, i64::from(u8::MAX)),
            _ => return Ok(()),
        };
        if i < lo || i > hi {
            return Err(Error::value(
                op,
                format!(
                    "the number {i} does not fit {dtype} ({lo} to {hi}); a wider dtype does: x.astype('int64')"
                ),
            ));
        }
        Ok(())
    }
}
impl From<f64> for Scalar {
    fn from(x: f64) -> Self {
        Self::Float(x)
    }
}
impl From<i64> for Scalar {
    fn from(x: i64) -> Self {
        Self::Int(x)
    }
}
impl From<bool> for Scalar {
    fn from(x: bool) -> Self {
        Self::Bool(x)
    }
}

/// A Rust type that a storage can be read as. `u8` also reads bool.
pub trait Element: Copy + Send + Sync + Default + PartialEq + fmt::Debug + 'static {
    /// Its dtype.
    const DTYPE: DType;
    /// From a scalar: integers exactly, floats with Rust's `as` semantics.
    fn from_scalar(s: Scalar) -> Self;
    /// To a scalar.
    fn to_scalar(self) -> Scalar;
    /// Whether a storage of dtype `d` holds this type.
    fn reads(d: DType) -> bool {
        d == Self::DTYPE || (d == DType::Bool && Self::DTYPE == DType::U8)
    }
}
macro_rules! elements {
    ($($t:ty => $d:ident $k:ident $w:ty;)*) => {$(
        impl Element for $t {
            const DTYPE: DType = DType::$d;
            fn from_scalar(s: Scalar) -> Self {
                match s {
                    Scalar::Bool(b) => u8::from(b) as $t,
                    Scalar::Int(i) => i as $t,
                    Scalar::Float(x) => x as $t,
                }
            }
            fn to_scalar(self) -> Scalar { Scalar::$k(self as $w) }
        }
    )*};
}
macro_rules! halves {
    ($($t:ident)*) => {$(
        impl Element for $t {
            const DTYPE: DType = DType::$t;
            fn from_scalar(s: Scalar) -> Self {
                match s {
                    Scalar::Int(i) => <$t as Half>::from_i64(i),
                    s => <$t as Half>::from_f64(s.to_f64()),
                }
            }
            fn to_scalar(self) -> Scalar { Scalar::Float(<$t as Half>::to_f32(self).into()) }
        }
    )*};
}
halves!(F16 BF16);
elements! {
    f32 => F32 Float f64;
    f64 => F64 Float f64;
    i64 => I64 Int i64;
    i32 => I32 Int i64;
    i16 => I16 Int i64;
    i8 => I8 Int i64;
    u8 => U8 Int i64;
}

/// Runs `$body` with `$T` as the Rust type of a float dtype; another dtype is an [`Error::Dtype`].
#[macro_export]
macro_rules! with_real {
    ($op:expr, $dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            $crate::dtype::DType::F32 => {
                type $T = f32;
                $body
            }
            $crate::dtype::DType::F64 => {
                type $T = f64;
                $body
            }
            other => {
                return Err($crate::error::Error::dtype(
                    $op,
                    format!("takes float32 or float64, not {other} (cast with .astype('float32'))"),
                ));
            }
        }
    };
}
/// Runs `$body` with `$T` as the Rust type of a dtype that kernels calculate in (bool as `u8`); float16 and bfloat16, which must have
/// been widened, are an [`Error::Internal`].
#[macro_export]
macro_rules! with_number {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            $crate::dtype::DType::F32 => {
                type $T = f32;
                $body
            }
            $crate::dtype::DType::F64 => {
                type $T = f64;
                $body
            }
            $crate::dtype::DType::I64 => {
                type $T = i64;
                $body
            }
            $crate::dtype::DType::I32 => {
                type $T = i32;
                $body
            }
            $crate::dtype::DType::I16 => {
                type $T = i16;
                $body
            }
            $crate::dtype::DType::I8 => {
                type $T = i8;
                $body
            }
            $crate::dtype::DType::U8 | $crate::dtype::DType::Bool => {
                type $T = u8;
                $body
            }
            half @ ($crate::dtype::DType::F16 | $crate::dtype::DType::BF16) => {
                return Err($crate::error::Error::internal(
                    "backend",
                    format!("a kernel met {half}, which should have been widened"),
                ));
            }
        }
    };
}
/// Runs `$body` with `$T` as the Rust type of any dtype (bool as `u8`).
#[macro_export]
macro_rules! with_element {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            $crate::dtype::DType::F32 => {
                type $T = f32;
                $body
            }
            $crate::dtype::DType::F64 => {
                type $T = f64;
                $body
            }
            $crate::dtype::DType::F16 => {
                type $T = $crate::dtype::F16;
                $body
            }
            $crate::dtype::DType::BF16 => {
                type $T = $crate::dtype::BF16;
                $body
            }
            $crate::dtype::DType::I64 => {
                type $T = i64;
                $body
            }
            $crate::dtype::DType::I32 => {
                type $T = i32;
                $body
            }
            $crate::dtype::DType::I16 => {
                type $T = i16;
                $body
            }
            $crate::dtype::DType::I8 => {
                type $T = i8;
                $body
            }
            $crate::dtype::DType::U8 | $crate::dtype::DType::Bool => {
                type $T = u8;
                $body
            }
        }
    };
}
/// Runs `$body` with `$W` as the integer of a dtype's size: for work that moves elements and does not look at them, so that it is
/// compiled for four sizes and not for every type (see [`crate::storage::Word`]).
#[macro_export]
macro_rules! with_word {
    ($dtype:expr, $W:ident => $body:expr) => {
        match $dtype.size() {
            1 => {
                type $W = u8;
                $body
            }
            2 => {
                type $W = i16;
                $body
            }
            4 => {
                type $W = i32;
                $body
            }
            _ => {
                type $W = i64;
                $body
            }
        }
    };
}
