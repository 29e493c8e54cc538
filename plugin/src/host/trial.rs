//! Small products, computed by the CPU backend of this program: what it does is the measure of what we do.

use std::ffi::c_void;

use unweight::codec::Number;

use super::api::*;
use super::cpu::Cpu;
use super::ggml::*;
use super::types::type_of;

/// A product to be tried: `rows` of `k` weights with `columns` vectors, as MUL_MAT or, of one expert, MUL_MAT_ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Trial {
    pub weights: Number,
    pub k: u64,
    pub rows: u64,
    pub columns: u64,
    pub of_experts: bool,
    /// Vectors have no gaps between them.
    pub is_contiguous: bool,
}

/// More than tensors, graph and alignment take.
const BOOKKEEPING: usize = 1 << 14;
const ALIGNMENT: usize = 64;

/// What the CPU backend makes of weights and vectors, column after column; `None` if it does not compute.
pub fn by_host(cpu: &mut Cpu, trial: Trial, weights: &[u8], x: &[f32]) -> Option<Vec<f32>> {
    let Trial { k, rows, columns, .. } = trial;
    assert_eq!(weights.len() as u64, k * rows * trial.weights.bytes(), "weights");
    assert_eq!(x.len() as u64, k * columns, "vectors");
    let (k, rows, columns) =
        (i64::try_from(k).ok()?, i64::try_from(rows).ok()?, i64::try_from(columns).ok()?);
    let mut memory = vec![0u128; BOOKKEEPING / size_of::<u128>()];
    let params =
        ggml_init_params { mem_size: BOOKKEEPING, mem_buffer: memory.as_mut_ptr().cast(), no_alloc: true };
    // SAFETY: every tensor is made here and given as many bytes as ggml says that it has; the context lies in `memory`.
    unsafe {
        let context = ggml_init(params);
        if context.is_null() {
            return None;
        }
        let gap = if trial.is_contiguous { 0 } else { 4 };
        let w = ggml_new_tensor_2d(context, type_of(trial.weights), k, rows);
        // Experts take a vector for each token. They begin `gap` floats further apart than they are long.
        let (slots, tokens) = if trial.of_experts { (1, columns) } else { (columns, 1) };
        let vectors = ggml_new_tensor_3d(context, GGML_TYPE_F32, k + gap, slots, tokens);
        let room = ggml_nbytes(vectors);
        (*vectors).ne[0] = k;
        let ids = ggml_new_tensor_2d(context, GGML_TYPE_I32, 1, columns);
        let y = match trial.of_experts {
            true => ggml_mul_mat_id(context, w, vectors, ids),
            false => ggml_mul_mat(context, w, vectors),
        };
        let graph = ggml_new_graph_custom(context, 8, false);
        ggml_build_forward_expand(graph, y);
        let needed = [(w, ggml_nbytes(w)), (vectors, room), (ids, ggml_nbytes(ids)), (y, ggml_nbytes(y))];
        let size: usize = needed.iter().map(|(_, bytes)| bytes.next_multiple_of(ALIGNMENT)).sum();
        let buffer = ggml_backend_buft_alloc_buffer(ggml_backend_cpu_buffer_type(), size);
        if buffer.is_null() {
            ggml_free(context);
            return None;
        }
        let mut at = ggml_backend_buffer_get_base(buffer).cast::<u8>();
        let mut placed = true;
        for (tensor, bytes) in needed {
            placed &= ggml_backend_tensor_alloc(buffer, tensor, at.cast::<c_void>()) == GGML_STATUS_SUCCESS;
            at = at.add(bytes.next_multiple_of(ALIGNMENT));
        }
        let mut result = None;
        if placed {
            (*w).data.cast::<u8>().copy_from_nonoverlapping(weights.as_ptr(), weights.len());
            (*ids).data.cast::<i32>().write_bytes(0, columns as usize);
            for (column, vector) in x.chunks_exact(k as usize).enumerate() {
                let to = (*vectors).data.cast::<f32>().add(column * (k + gap) as usize);
                to.copy_from_nonoverlapping(vector.as_ptr(), vector.len());
            }
            if cpu.compute(&mut *graph) == GGML_STATUS_SUCCESS {
                let y = (*y).data.cast::<f32>();
                result = Some(std::slice::from_raw_parts(y, (rows * columns) as usize).to_vec());
            }
        }
        ggml_backend_buffer_free(buffer);
        ggml_free(context);
        result
    }
}
