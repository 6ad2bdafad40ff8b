// What client.d.ts says that there is, as JSON: names of values, of members of classes, of options and events.
"use strict";

const ts = require("typescript");

const [path] = process.argv.slice(2);
const options = { strict: true, noEmit: true, target: ts.ScriptTarget.ES2022, lib: ["lib.es2022.d.ts"] };
const program = ts.createProgram([path], options);
const checker = program.getTypeChecker();
const file = checker.getSymbolAtLocation(program.getSourceFile(path));
const exported = new Map(checker.getExportsOfModule(file).map((each) => [each.name, each]));
const namesOf = (type) => type.getProperties().map(({ name }) => name);
const declared = (name) => checker.getDeclaredTypeOfSymbol(exported.get(name));
const literals = (name) => declared(name).types.filter((type) => type.isStringLiteral()).map(({ value }) => value);
const statics = checker.getTypeOfSymbol(exported.get("RealtimeClient")).getProperties();

process.stdout.write(JSON.stringify({
  values: [...exported.values()].filter(({ flags }) => flags & ts.SymbolFlags.Value).map(({ name }) => name),
  members: namesOf(declared("RealtimeClient")),
  statics: statics.map(({ name }) => name).filter((name) => name !== "prototype"),
  errorMembers: namesOf(declared("RealtimeError")),
  options: namesOf(declared("Options")),
  events: namesOf(declared("Events")),
  states: literals("State"),
}));
