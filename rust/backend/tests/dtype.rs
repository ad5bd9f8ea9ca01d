//! Promotion of dtypes.

use corten_backend::dtype::*;

#[test]
fn promotion_table() {
    use DType::*;
    assert_eq!(F32.promote(I64), F32);
    assert_eq!(F32.promote(F64), F64);
    assert_eq!(U8.promote(I8), I16);
    assert_eq!(U8.promote(I16), I16);
    assert_eq!(Bool.promote(U8), U8);
    assert_eq!(I32.promote(I64), I64);
    assert_eq!(F16.promote(BF16), F32);
    assert_eq!(F16.promote(I64), F16);
    assert_eq!(Bool.promote(BF16), BF16);
    assert_eq!(BF16.promote(F64), F64);
    for a in DType::ALL {
        assert_eq!(a.promote(a), a);
        assert_eq!(Bool.promote(a), a);
        for b in DType::ALL {
            assert_eq!(a.promote(b), b.promote(a), "{a} {b}");
        }
    }
}

#[test]
fn scalars_are_weak() {
    use DType::*;
    assert_eq!(F64.promote_scalar(Scalar::Float(1.0)), F64);
    assert_eq!(BF16.promote_scalar(Scalar::Float(1.0)), BF16);
    assert_eq!(F16.promote_scalar(Scalar::Int(1)), F16);
    assert_eq!(U8.promote_scalar(Scalar::Int(1)), U8);
    assert_eq!(I32.promote_scalar(Scalar::Float(1.5)), F32);
    assert_eq!(Bool.promote_scalar(Scalar::Int(1)), I64);
    assert!(Scalar::Int(300).check_fits("add", U8).is_err());
    assert!(Scalar::Int(255).check_fits("add", U8).is_ok());
}
