// The Node.js runtime: loads the handler and speaks Lambda's Runtime API. Runs in the sandbox, without packages.
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import http from "node:http";
import https from "node:https";
import Module, { createRequire, syncBuiltinESMExports } from "node:module";
import path from "node:path";
import { PassThrough } from "node:stream";
import { pathToFileURL, urlToHttpOptions } from "node:url";
import { format } from "node:util";

const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(":");
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
const STREAMING = Symbol.for("aws.lambda.runtime.handler.streaming");

// Cloudlet answers without TLS: what a function asks of it over https, or of an API by AWS's name, is asked without.
const endpoint = new URL(process.env.AWS_ENDPOINT_URL || "none:");
const AWS_NAME = /\.(execute-api\.[a-z0-9-]+\.amazonaws\.com|lambda-url\.[a-z0-9-]+\.on\.aws)$/;
const secure = https.request;
https.request = function request(first, ...rest) {
  const isUrl = typeof first === "string" || first instanceof URL;
  let options = isUrl ? urlToHttpOptions(new URL(first)) : first;
  const hasMore = isUrl && rest[0] && typeof rest[0] === "object";
  if (hasMore) options = { ...options, ...rest[0] };
  const host = options?.hostname || options?.host || "";
  const port = Number(options?.port) || 443;
  if (!isOurs(host, port, options?.path || "/")) return secure.call(this, first, ...rest);
  const headers = { host: port === 443 ? host : `${host}:${port}`, ...options.headers };
  const there = { protocol: "http:", agent: undefined, host: endpoint.hostname, hostname: endpoint.hostname };
  const plain = { ...options, ...there, port: endpoint.port || 80, headers };
  return http.request(plain, ...rest.slice(hasMore ? 1 : 0));
};
https.get = function get(...given) {
  const asked = https.request(...given);
  asked.end();
  return asked;
};
syncBuiltinESMExports();

const fetched = globalThis.fetch;
globalThis.fetch = function fetch(input, ...rest) {
  const url = typeof input === "string" && URL.canParse(input) ? new URL(input) : input;
  if (url?.protocol !== "https:" || !isOurs(url.hostname, Number(url.port) || 443, url.pathname)) {
    return fetched.call(this, input, ...rest);
  }
  const [label, door] = url.hostname.split(".");
  const where = AWS_NAME.test(url.hostname) ? `${endpoint.origin}/_cloudlet/${door}/${label}` : `http://${url.host}`;
  return fetched.call(this, where + url.pathname + url.search, ...rest);
};

function isOurs(host, port, where) {
  if (endpoint.protocol !== "http:") return false;
  if (AWS_NAME.test(host)) return true;
  if (host !== endpoint.hostname && !host.endsWith(".localhost")) return false;
  // CDK's and npm's cfn-response answer at port 443, whatever the ResponseURL says.
  return port === Number(endpoint.port || 80) || (port === 443 && where.startsWith("/_cloudlet/cloudformation/"));
}

// Lambda brings AWS's SDK. Here each of its packages is installed when a function first asks for it.
const resolve = Module._resolveFilename;
Module._resolveFilename = function (request, ...rest) {
  try {
    return resolve.call(this, request, ...rest);
  } catch (error) {
    const name = /^@(aws-sdk|aws-crypto|smithy)\/[a-z0-9-]+/.exec(request)?.[0];
    if (error.code !== "MODULE_NOT_FOUND" || !name) throw error;
    // require() cannot wait, so another process asks; it resolves too, since this one remembers what was not there.
    const url = `http://${host}:${port}/2018-06-01/runtime/package/${name}`;
    const code = `fetch(${JSON.stringify(url)}).then(() => process.stdout.write(require.resolve(${JSON.stringify(request)})))`;
    const { status, stdout } = spawnSync(process.execPath, ["-e", code], { stdio: ["ignore", "pipe", "ignore"] });
    if (status !== 0) throw error;
    return stdout.toString();
  }
};

function ask(method, where, body, headers = {}) {
  return new Promise((resolve, reject) => {
    const options = { host, port, method, agent, path: "/2018-06-01/runtime" + where, headers };
    if (body !== undefined && !body.pipe) options.headers["content-length"] = Buffer.byteLength(body);
    const request = http.request(options, (answer) => {
      const pieces = [];
      answer.on("data", (piece) => pieces.push(piece));
      answer.on("end", () => resolve([answer.headers, Buffer.concat(pieces).toString()]));
    });
    request.setNoDelay(true);
    // The cloud is gone, and this sandbox with it.
    request.on("error", () => process.exit(0));
    if (body?.pipe) body.pipe(request);
    else request.end(body);
  });
}

function failure(error) {
  if (!(error instanceof Error)) return { errorType: typeof error, errorMessage: String(error), trace: [] };
  return { errorType: error.name, errorMessage: error.message, trace: (error.stack || "").split("\n") };
}

async function load() {
  const root = process.env.LAMBDA_TASK_ROOT || "/var/task";
  const handler = process.env._HANDLER;
  const at = handler.indexOf(".", handler.lastIndexOf("/") + 1);
  if (at < 0) throw named("Runtime.MalformedHandlerName", "Bad handler");
  const file = path.resolve(root, handler.slice(0, at));
  const found = [file + ".js", file + ".mjs", file + ".cjs"].find((name) => fs.existsSync(name));
  if (!found) throw named("Runtime.ImportModuleError", `Error: Cannot find module '${handler.slice(0, at)}'`);
  let module;
  if (found.endsWith(".mjs") || (found.endsWith(".js") && isModule(path.dirname(found), root))) module = await import(pathToFileURL(found));
  else module = createRequire(found)(found);
  let target = module;
  for (const name of handler.slice(at + 1).split(".")) target = target?.[name] ?? target?.default?.[name];
  if (typeof target !== "function") throw named("Runtime.HandlerNotFound", `${handler} is undefined or not exported`);
  return target;
}

function isModule(folder, root) {
  for (let current = folder; ; current = path.dirname(current)) {
    const file = path.join(current, "package.json");
    if (fs.existsSync(file)) return JSON.parse(fs.readFileSync(file)).type === "module";
    if (current === root || current === path.dirname(current)) return false;
  }
}

function named(name, message) {
  const error = new Error(message);
  error.name = name;
  return error;
}

function contextOf(headers, done) {
  const deadline = Number(headers["lambda-runtime-deadline-ms"]);
  return {
    awsRequestId: headers["lambda-runtime-aws-request-id"],
    invokedFunctionArn: headers["lambda-runtime-invoked-function-arn"],
    functionName: process.env.AWS_LAMBDA_FUNCTION_NAME,
    functionVersion: process.env.AWS_LAMBDA_FUNCTION_VERSION,
    memoryLimitInMB: process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: process.env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: process.env.AWS_LAMBDA_LOG_STREAM_NAME,
    clientContext: headers["lambda-runtime-client-context"] && JSON.parse(headers["lambda-runtime-client-context"]),
    callbackWaitsForEmptyEventLoop: true,
    getRemainingTimeInMillis: () => Math.max(0, deadline - Date.now()),
    done: (error, result) => done(error, result),
    fail: (error) => done(error),
    succeed: (result) => done(null, result),
  };
}

function call(handler, event, headers) {
  return new Promise((resolve, reject) => {
    const done = (error, result) => (error ? reject(error) : resolve(result));
    const result = handler(event, contextOf(headers, done), done);
    if (typeof result?.then === "function") result.then(resolve, reject);
    else if (result !== undefined && handler.length < 3) resolve(result);
  });
}

async function stream(handler, event, headers, request) {
  const output = new PassThrough();
  let kind = "application/octet-stream";
  output.setContentType = (given) => (kind = given);
  // The head is sent with the first bytes: until then the handler may still say what they are, or fail.
  let sent;
  const begin = () => {
    output.off("data", buffer);
    const said = { "lambda-runtime-function-response-mode": "streaming", "transfer-encoding": "chunked", "content-type": kind };
    const body = new PassThrough();
    sent ??= ask("POST", `/invocation/${request}/response`, body, said);
    return body;
  };
  const buffer = (first) => {
    const body = begin();
    body.write(first);
    output.pipe(body);
  };
  output.on("data", buffer);
  await handler(event, output, contextOf(headers, () => output.end()));
  if (!output.writableEnded) output.end();
  if (!output.readableEnded) await new Promise((resolve) => output.once("end", resolve));
  if (!sent) begin().end();
  await sent;
}

globalThis.awslambda = {
  streamifyResponse: (handler) => Object.assign(handler, { [STREAMING]: "response" }),
  HttpResponseStream: {
    from: (output, prelude) => {
      output.setContentType("application/vnd.awslambda.http-integration-response");
      output.write(JSON.stringify(prelude));
      output.write(new Uint8Array(8));
      return output;
    },
  },
};

const LEVELS = { trace: "TRACE", debug: "DEBUG", log: "INFO", info: "INFO", warn: "WARN", error: "ERROR" };
const ORDER = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];
const asJson = process.env.AWS_LAMBDA_LOG_FORMAT === "JSON";
const least = asJson ? ORDER.indexOf(process.env.AWS_LAMBDA_LOG_LEVEL || "INFO") : 0;
for (const [name, level] of Object.entries(LEVELS))
  console[name] = (...parts) => {
    if (ORDER.indexOf(level) < least) return;
    const timestamp = new Date().toISOString();
    const [only] = parts;
    if (asJson) {
      const message = parts.length === 1 && !(only instanceof Error) ? only : format(...parts);
      process.stdout.write(JSON.stringify({ timestamp, level, requestId: current, message }) + "\n");
    } else process.stdout.write(`${timestamp}\t${current ?? "undefined"}\t${level}\t${format(...parts).replace(/\n/g, "\r")}\n`);
  };

let current;
async function fail(error, where) {
  const told = failure(error);
  console.error("Invoke Error", JSON.stringify({ errorType: told.errorType, errorMessage: told.errorMessage, stack: told.trace }));
  await ask("POST", where, JSON.stringify(told), {
    "content-type": "application/json",
    "lambda-runtime-function-error-type": told.errorType,
  });
}
for (const kind of ["uncaughtException", "unhandledRejection"])
  process.on(kind, async (error) => {
    if (current) await fail(error, `/invocation/${current}/error`);
    process.exit(1);
  });

let handler;
try {
  handler = await load();
} catch (error) {
  await fail(error, "/init/error");
  process.exit(1);
}
for (;;) {
  const [headers, event] = await ask("GET", "/invocation/next");
  current = headers["lambda-runtime-aws-request-id"];
  process.env._X_AMZN_TRACE_ID = headers["lambda-runtime-trace-id"] || "";
  try {
    if (handler[STREAMING]) await stream(handler, JSON.parse(event), headers, current);
    else {
      const result = await call(handler, JSON.parse(event), headers);
      const body = JSON.stringify(result === undefined ? null : result);
      await ask("POST", `/invocation/${current}/response`, body, { "content-type": "application/json" });
    }
  } catch (error) {
    await fail(error, `/invocation/${current}/error`);
  }
  current = undefined;
}
