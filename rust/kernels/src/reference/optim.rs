//! Naive twins of [`crate::optim`].
use crate::element::Real;
pub use crate::optim::{Adam, AdamItem, RmsProp, RmsPropItem, Sgd, SgdItem};

/// Twin of [`crate::optim::sgd`].
pub fn sgd<T: Real>(items: &mut [SgdItem<'_, T>], h: &Sgd) {
    for item in items {
        for i in 0..item.p.len() {
            let p = item.p[i].to_f64();
            let mut g = item.g[i].to_f64();
            if h.maximize {
                g = -g;
            }
            // 0 * inf must not poison a step without decay.
            if h.weight_decay != 0.0 {
                g += h.weight_decay * p;
            }
            if let Some(buffer) = item.momentum.as_mut() {
                let b = if h.first {
                    g
                } else {
                    h.momentum * buffer[i].to_f64() + (1.0 - h.dampening) * g
                };
                buffer[i] = T::from_f64(b);
                g = if h.nesterov { g + h.momentum * b } else { b };
            }
            item.p[i] = T::from_f64(p - h.lr * g);
        }
    }
}

/// Twin of [`crate::optim::adam`].
pub fn adam<T: Real>(items: &mut [AdamItem<'_, T>], h: &Adam) {
    let correction1 = 1.0 - h.beta1.powf(h.step as f64);
    let correction2 = 1.0 - h.beta2.powf(h.step as f64);
    for item in items {
        for i in 0..item.p.len() {
            let mut p = item.p[i].to_f64();
            let mut g = item.g[i].to_f64();
            if h.maximize {
                g = -g;
            }
            if h.weight_decay != 0.0 {
                if h.decoupled {
                    p *= 1.0 - h.lr * h.weight_decay;
                } else {
                    g += h.weight_decay * p;
                }
            }
            let m = h.beta1 * item.m[i].to_f64() + (1.0 - h.beta1) * g;
            let v = h.beta2 * item.v[i].to_f64() + (1.0 - h.beta2) * g * g;
            item.m[i] = T::from_f64(m);
            item.v[i] = T::from_f64(v);
            let root = v.sqrt() / correction2.sqrt() + h.eps;
            item.p[i] = T::from_f64(p - h.lr / correction1 * m / root);
        }
    }
}

/// Twin of [`crate::optim::rmsprop`].
pub fn rmsprop<T: Real>(items: &mut [RmsPropItem<'_, T>], h: &RmsProp) {
    for item in items {
        for i in 0..item.p.len() {
            let p = item.p[i].to_f64();
            let mut g = item.g[i].to_f64();
            if h.maximize {
                g = -g;
            }
            if h.weight_decay != 0.0 {
                g += h.weight_decay * p;
            }
            let mut spread = h.alpha * item.square[i].to_f64() + (1.0 - h.alpha) * g * g;
            item.square[i] = T::from_f64(spread);
            if let Some(mean) = item.mean.as_mut() {
                let m = h.alpha * mean[i].to_f64() + (1.0 - h.alpha) * g;
                mean[i] = T::from_f64(m);
                spread -= m * m;
                // Written so that NaN stays NaN.
                if spread < 0.0 {
                    spread = 0.0;
                }
            }
            let mut step = g / (spread.sqrt() + h.eps);
            if let Some(buffer) = item.momentum.as_mut() {
                step += h.momentum * buffer[i].to_f64();
                buffer[i] = T::from_f64(step);
            }
            item.p[i] = T::from_f64(p - h.lr * step);
        }
    }
}
