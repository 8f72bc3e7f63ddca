//! Memory of every size: exactly the plan is enough, anything less is refused, and nothing outside it is touched.

use dsv4_core::arch::disjoint::Serial;
use dsv4_core::arena::ALIGN;
use dsv4_core::dtype::DType;
use dsv4_core::error::Error;
use dsv4_core::kernel::MatmulMode;
use dsv4_core::model::Model;
use dsv4_core::session::{Session, SessionParams};
use dsv4_tests::golden::{eval, fresh, with_model};
use dsv4_tests::synth::{Random, Shape, Types};

/// Bytes on either side of a region that must stay as they are.
const GUARD: usize = 4096;
const CANARY: u8 = 0xc5;

/// `len` bytes at a multiple of [`ALIGN`], `shift` bytes past it, between guards.
struct Guarded {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Guarded {
    fn new(len: usize, shift: usize) -> Self {
        let bytes = vec![CANARY; len + 2 * GUARD + ALIGN];
        let start = GUARD + bytes[GUARD..].as_ptr().align_offset(ALIGN) + shift;
        Self { bytes, start, len }
    }

    fn region(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..][..self.len]
    }

    #[track_caller]
    fn check(&self) {
        let (before, rest) = self.bytes.split_at(self.start);
        let guards = before.iter().chain(&rest[self.len..]);
        assert!(guards.into_iter().all(|&byte| byte == CANARY), "a byte outside the region was written");
    }
}

fn load<'a>(shards: &'a [&'a [u8]], memory: &'a mut [u8]) -> Result<Model<'a>, Error> {
    Model::load(shards, memory, &mut |_| true)
}

#[test]
fn model_memory_of_every_size() {
    let file = Shape::tiny(3).file(1);
    let shards = [&file[..]];
    let need = Model::plan(&shards).unwrap();
    let mut memory = Guarded::new(need + 100, 0);
    for got in 0..need {
        let refused = load(&shards, &mut memory.region()[..got]).map(|_| ());
        assert_eq!(refused, Err(Error::MemoryTooSmall { need: need as u64, got: got as u64 }));
    }
    assert!(memory.region().iter().all(|&byte| byte == CANARY), "a refused region is left alone");
    for enough in [need, need + 1, need + 100] {
        load(&shards, &mut memory.region()[..enough]).unwrap();
    }
}

fn params(matmul: MatmulMode) -> SessionParams {
    SessionParams { batch: 7, rewind: 3, matmul, ..SessionParams::new(30) }
}

#[test]
fn session_memory_of_every_size() {
    for matmul in [MatmulMode::Exact, MatmulMode::Fast] {
        with_model(&Shape::tiny(3).file(1), |model| {
            let params = params(matmul);
            let plan = Session::plan(model.config(), &params).unwrap();
            assert_eq!(plan.bytes(), plan.cache + plan.scratch);
            let need = plan.bytes();
            let mut memory = Guarded::new(need + 100, 0);
            for got in 0..need {
                let refused = Session::new(model, &params, &mut memory.region()[..got]).map(|_| ());
                assert_eq!(refused, Err(Error::MemoryTooSmall { need: need as u64, got: got as u64 }));
            }
            assert!(memory.region().iter().all(|&byte| byte == CANARY), "a refused region is left alone");
            for enough in [need, need + 1, need + 100] {
                Session::new(model, &params, &mut memory.region()[..enough]).unwrap();
            }
        });
    }
}

#[test]
fn misaligned_memory() {
    let file = Shape::tiny(3).file(1);
    let shards = [&file[..]];
    let misaligned = Error::MemoryMisaligned { align: ALIGN as u32 };
    for shift in 1..ALIGN {
        let mut memory = Guarded::new(Model::plan(&shards).unwrap(), shift);
        assert_eq!(load(&shards, memory.region()).map(|_| ()), Err(misaligned));
        with_model(&file, |model| {
            let params = params(MatmulMode::Fast);
            let mut memory = Guarded::new(Session::plan(model.config(), &params).unwrap().bytes(), shift);
            assert_eq!(Session::new(model, &params, memory.region()).map(|_| ()), Err(misaligned));
        });
    }
}

/// Everything a model and a session do, in exactly the planned bytes between canaries.
fn stays_inside(shape: &Shape, matmul: MatmulMode) {
    let file = shape.file(1);
    let shards = [&file[..]];
    let mut model_memory = Guarded::new(Model::plan(&shards).unwrap(), 0);
    let model = load(&shards, model_memory.region()).unwrap();
    let params = params(matmul);
    let mut memory = Guarded::new(Session::plan(model.config(), &params).unwrap().bytes(), 0);
    let mut session = Session::new(&model, &params, memory.region()).unwrap();
    let tokens = Random(1).tokens(30, shape.sizes.vocab as usize);
    let first = eval(&mut session, &tokens, 30, &Serial);
    session.rewind(27).unwrap();
    eval(&mut session, &tokens[27..], 1, &Serial);
    session.clear();
    assert_eq!(eval(&mut session, &tokens, 11, &Serial), first);
    // What a region held before does not matter.
    assert_eq!(fresh(&model, &params, &tokens), first);
    memory.check();
    model_memory.check();
}

#[test]
fn nothing_outside_is_touched() {
    for matmul in [MatmulMode::Exact, MatmulMode::Fast] {
        for seed in 0..40 {
            stays_inside(&Shape::tiny(seed), matmul);
        }
        for dtype in [DType::Q4_K, DType::Q8_0, DType::MXFP4] {
            stays_inside(&Shape::small(Types::all(dtype)), matmul);
        }
    }
}
