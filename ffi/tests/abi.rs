//! The C ABI and the Rust host compute the same bits. (What the ABI refuses, and its hosts in C and C++: tests/hosts.)

use dsv4::host::{Model, Session};
use dsv4::pool::Pool;
use dsv4::{Logits, SessionParams};
use std::ffi::{CString, c_void};
use std::path::Path;
use std::ptr::{null, null_mut};

/// `dsv4_model_params`, as far as it is needed here.
#[repr(C)]
struct ModelParams {
    size: usize,
    path: *const std::ffi::c_char,
    shards: *const c_void,
    n_shards: usize,
    threads: u32,
}

/// `dsv4_session_params`.
#[repr(C)]
struct Params {
    size: usize,
    context: usize,
    batch: usize,
    rewind: usize,
    matmul: u32,
    cache: u32,
}

unsafe extern "C" {
    fn dsv4_model_open(params: *const ModelParams, model: *mut *mut c_void, error: *mut c_void) -> i32;
    fn dsv4_model_free(model: *mut c_void) -> i32;
    fn dsv4_session_new(
        model: *const c_void,
        params: *const Params,
        session: *mut *mut c_void,
        error: *mut c_void,
    ) -> i32;
    fn dsv4_session_eval(session: *mut c_void, tokens: *const u32, n: usize, logits: *mut f32, n_logits: usize) -> i32;
    fn dsv4_session_free(session: *mut c_void) -> i32;
}

#[test]
fn the_same_logits_as_from_rust() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("model/small.gguf");
    let tokens: Vec<u32> = (0..150).map(|i| i * 7 % 500).collect();

    let model = Model::open(&path).unwrap();
    let vocab = model.core().config().vocab;
    let mut ours = vec![0.0; tokens.len() * vocab];
    let mut session = Session::new(model, &SessionParams::new(200), Pool::new(2)).unwrap();
    session.eval(&tokens, Logits::All(&mut ours), &mut |_| true).unwrap();

    let path = CString::new(path.to_str().unwrap()).unwrap();
    let size = size_of::<ModelParams>();
    let params = ModelParams { size, path: path.as_ptr(), shards: null(), n_shards: 0, threads: 2 };
    let session_params = Params { size: size_of::<Params>(), context: 200, batch: 0, rewind: 0, matmul: 0, cache: 0 };
    let mut theirs = vec![0.0; ours.len()];
    let (mut model, mut session) = (null_mut(), null_mut());
    // SAFETY: as include/dsv4.h asks; `size` ends the structs where these do.
    unsafe {
        assert_eq!(dsv4_model_open(&raw const params, &raw mut model, null_mut()), 0);
        assert_eq!(dsv4_session_new(model, &raw const session_params, &raw mut session, null_mut()), 0);
        let status = dsv4_session_eval(session, tokens.as_ptr(), tokens.len(), theirs.as_mut_ptr(), theirs.len());
        assert_eq!(status, 0);
        assert_eq!(dsv4_session_free(session), 0);
        assert_eq!(dsv4_model_free(model), 0);
    }
    assert!(ours.iter().map(|x| x.to_bits()).eq(theirs.iter().map(|x| x.to_bits())));
}
