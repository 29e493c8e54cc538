// Asks a model in node-llama-cpp, as ask.py does in a Python package.
//
//   node ask.mjs MODULES MODEL.gguf PLUGIN.so|- [QUESTION] [--json]
//
// MODULES is the folder that holds node_modules with node-llama-cpp.
import {createRequire} from "node:module";
import {availableParallelism} from "node:os";
import {pathToFileURL} from "node:url";

const QUESTION = "Why is the sky blue? Answer in two sentences.";
const TOKENS = 80;
const PROMPT = 128;

const asJson = process.argv.includes("--json");
const [modules, modelPath, plugin, question = QUESTION] = process.argv.slice(2).filter((argument) => argument !== "--json");
// Before llama.cpp is loaded.
if (plugin !== "-") process.env.GGML_BACKEND_PATH = plugin;
const main = createRequire(modules + "/").resolve("node-llama-cpp");
const {getLlama, LlamaChatSession, LlamaLogLevel} = await import(pathToFileURL(main));
const llama = await getLlama({gpu: false, build: "never", logLevel: LlamaLogLevel.error});
const model = await llama.loadModel({modelPath});
const context = await model.createContext({contextSize: 2048, batchSize: PROMPT, threads: availableParallelism(), sequences: 2});

// Seconds that something takes.
async function timed(work) {
    const start = performance.now();
    await work();
    return (performance.now() - start) / 1000;
}

const figures = {};
if (asJson) {
    const sequence = context.getSequence();
    await sequence.evaluateWithoutGeneratingNewTokens(model.tokenize("Hello"));
    figures.first = performance.now() / 1000; // since the process started
    const prompt = Array(PROMPT).fill(model.tokenize(" the")[0]);
    figures.prompt = PROMPT / await timed(() => sequence.evaluateWithoutGeneratingNewTokens(prompt));
    sequence.dispose();
}
const session = new LlamaChatSession({contextSequence: context.getSequence()});
const times = [];
const answer = await session.prompt(question, {maxTokens: TOKENS, onToken: () => times.push(performance.now())});
if (asJson) figures.generation = (times.length - 1) * 1000 / (times.at(-1) - times[0]);
console.log(asJson ? JSON.stringify({answer, ...figures}) : answer);
process.exit(0);
