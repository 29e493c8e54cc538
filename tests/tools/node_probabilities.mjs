// Prints what node-llama-cpp's llama.cpp makes of a model: for each token of a prompt, evaluated as one batch, the probabilities of all
// that could follow; then the same token by token. Of the file as it is mapped, and of the file read into memory.
//
//   node node_probabilities.mjs MODULES MODEL.gguf [PLUGIN]
//
// MODULES is the folder that holds node_modules.
import {createRequire} from "node:module";
import {pathToFileURL} from "node:url";

const PROMPT = "Once upon a time there was a fox who lived in a wood, and every morning it went down to the river.";
const [modules, modelPath, plugin] = process.argv.slice(2);
if (plugin) process.env.GGML_BACKEND_PATH = plugin;
const main = createRequire(modules + "/").resolve("node-llama-cpp");
const {getLlama, LlamaLogLevel} = await import(pathToFileURL(main));
const llama = await getLlama({gpu: false, build: "never", logLevel: LlamaLogLevel.error});
for (const useMmap of [true, false]) {
    const model = await llama.loadModel({modelPath, useMmap});
    const context = await model.createContext({contextSize: 256, threads: 2, sequences: 2});
    const tokens = model.tokenize(PROMPT);
    for (const step of [tokens.length, 1]) {
        const sequence = context.getSequence();
        for (let at = 0; at < tokens.length; at += step) {
            const wanted = tokens.slice(at, at + step).map((token) => [token, {generateNext: {probabilities: true}}]);
            for (const {next} of await sequence.controlledEvaluate(wanted))
                console.log([...next.probabilities].map(([token, probability]) => `${token} ${probability}`).join(", "));
        }
    }
    await context.dispose();
    await model.dispose();
}
process.exit(0);
