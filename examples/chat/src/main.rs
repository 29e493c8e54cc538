//! Asks a model a question and prints the answer as it comes: llama.cpp within a Rust program, with the backend linked in.
//!     chat MODEL.gguf QUESTION        the model may be compressed or not

use std::io::{Write, stdout};

use anyhow::Context;
use llama_cpp_4::model::LlamaChatMessage;
use llama_cpp_4::prelude::*;

/// Tokens of question and answer together.
const WINDOW: u32 = 2048;
const LONGEST_ANSWER: usize = 200;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(file), Some(question), None) = (arguments.next(), arguments.next(), arguments.next()) else {
        anyhow::bail!("usage: chat MODEL.gguf QUESTION");
    };

    // This line is all that compressed models need.
    ggml_unweight::register().map_err(anyhow::Error::msg)?;

    let mut llama = LlamaBackend::init()?;
    llama.void_logs();
    let model = LlamaModel::load_from_file(&llama, &file, &LlamaModelParams::default())
        .with_context(|| format!("{file}: cannot be loaded"))?;
    let threads = i32::try_from(std::thread::available_parallelism()?.get())?;
    let parameters = LlamaContextParams::default()
        .with_n_ctx(WINDOW.try_into().ok())
        .with_n_batch(WINDOW)
        .with_n_threads(threads)
        .with_n_threads_batch(threads);
    let mut context = model.new_context(&llama, parameters)?;

    let message = LlamaChatMessage::new("user".to_owned(), question)?;
    let prompt = model.apply_chat_template(model.chat_template(None).ok(), &[message], true)?;
    let tokens = model.str_to_token(&prompt, AddBos::Always)?;
    anyhow::ensure!(tokens.len() + LONGEST_ANSWER <= WINDOW as usize, "the question is too long");

    let mut batch = LlamaBatch::new(WINDOW as usize, 1);
    batch.add_sequence(&tokens, 0, false)?;
    let sampler = LlamaSampler::greedy();
    for position in (tokens.len()..).take(LONGEST_ANSWER) {
        context.decode(&mut batch)?;
        let token = sampler.sample(&context, -1);
        if model.is_eog_token(token) {
            break;
        }
        stdout().write_all(&model.token_to_bytes(token, Special::Plaintext)?)?;
        stdout().flush()?;
        batch.clear();
        batch.add(token, i32::try_from(position)?, &[0], true)?;
    }
    println!();
    Ok(())
}
