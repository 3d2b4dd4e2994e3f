/**
 * The functions of the WasmEdge C API that are used, as FFI types. Structures of up to 16 bytes
 * that C passes by value are given field by field, which is the same call on x86-64 and aarch64 and
 * takes Deno's fast path. Source: wasmedge/wasmedge.h of WasmEdge 0.17.
 *
 * @module
 */

/** A `WasmEdge_Result` by value: its code. */
const RESULT = "u32";
/** A pointer: see native/library.ts. */
const ADDRESS = "u64";
/** A `WasmEdge_String` that is returned by value: length and pointer, 16 bytes. */
const STRING = { struct: ["u32", "u64"] } as const;

/** What every version has: opened first, to say which one it is. */
export const VERSION_SYMBOLS = {
  WasmEdge_VersionGet: { parameters: [], result: ADDRESS },
  WasmEdge_VersionGetMajor: { parameters: [], result: "u32" },
  WasmEdge_VersionGetMinor: { parameters: [], result: "u32" },
} as const satisfies Deno.ForeignLibraryInterface;

/** For {@link openLibrary}. */
export const WASMEDGE_SYMBOLS = {
  WasmEdge_LogOff: { parameters: [], result: "void" },
  WasmEdge_ResultGetMessage: { parameters: [RESULT], result: ADDRESS },

  WasmEdge_ConfigureCreate: { parameters: [], result: ADDRESS },
  WasmEdge_ConfigureDelete: { parameters: [ADDRESS], result: "void" },
  WasmEdge_ConfigureRemoveProposal: { parameters: [ADDRESS, "i32"], result: "void" },
  WasmEdge_ConfigureSetMaxMemoryPage: { parameters: [ADDRESS, "u64"], result: "void" },
  WasmEdge_ConfigureSetRunMode: { parameters: [ADDRESS, "i32"], result: "void" },

  WasmEdge_LoaderCreate: { parameters: [ADDRESS], result: ADDRESS },
  // (loader, AST module **, bytes by value {length, pointer})
  WasmEdge_LoaderParseFromBytes: {
    parameters: [ADDRESS, "buffer", "u32", "buffer"],
    result: RESULT,
  },
  parseFromBytesAsync: {
    name: "WasmEdge_LoaderParseFromBytes",
    parameters: [ADDRESS, "buffer", "u32", "buffer"],
    result: RESULT,
    nonblocking: true,
  },
  // (loader, AST module **, path)
  parseFromFileAsync: {
    name: "WasmEdge_LoaderParseFromFile",
    parameters: [ADDRESS, "buffer", "buffer"],
    result: RESULT,
    nonblocking: true,
  },
  WasmEdge_LoaderDelete: { parameters: [ADDRESS], result: "void" },
  WasmEdge_ValidatorCreate: { parameters: [ADDRESS], result: ADDRESS },
  WasmEdge_ValidatorValidate: { parameters: [ADDRESS, ADDRESS], result: RESULT },
  validateAsync: {
    name: "WasmEdge_ValidatorValidate",
    parameters: [ADDRESS, ADDRESS],
    result: RESULT,
    nonblocking: true,
  },
  WasmEdge_ValidatorDelete: { parameters: [ADDRESS], result: "void" },
  WasmEdge_ASTModuleDelete: { parameters: [ADDRESS], result: "void" },
  WasmEdge_ASTModuleListImportsLength: { parameters: [ADDRESS], result: "u32" },
  WasmEdge_ASTModuleListImports: { parameters: [ADDRESS, "buffer", "u32"], result: "u32" },
  WasmEdge_ASTModuleListExportsLength: { parameters: [ADDRESS], result: "u32" },
  WasmEdge_ASTModuleListExports: { parameters: [ADDRESS, "buffer", "u32"], result: "u32" },
  WasmEdge_ImportTypeGetModuleName: { parameters: [ADDRESS], result: STRING },
  WasmEdge_ImportTypeGetExternalName: { parameters: [ADDRESS], result: STRING },
  WasmEdge_ExportTypeGetExternalType: { parameters: [ADDRESS], result: "u32" },
  WasmEdge_ExportTypeGetExternalName: { parameters: [ADDRESS], result: STRING },
  WasmEdge_ExportTypeGetFunctionType: { parameters: [ADDRESS, ADDRESS], result: ADDRESS },
  WasmEdge_FunctionTypeGetParametersLength: { parameters: [ADDRESS], result: "u32" },
  WasmEdge_FunctionTypeGetReturnsLength: { parameters: [ADDRESS], result: "u32" },

  WasmEdge_StoreCreate: { parameters: [], result: ADDRESS },
  WasmEdge_StoreDelete: { parameters: [ADDRESS], result: "void" },
  WasmEdge_ExecutorCreate: { parameters: [ADDRESS, ADDRESS], result: ADDRESS },
  WasmEdge_ExecutorDelete: { parameters: [ADDRESS], result: "void" },
  WasmEdge_ExecutorRegisterImport: { parameters: [ADDRESS, ADDRESS, ADDRESS], result: RESULT },
  // (executor, module instance **, store, AST module)
  WasmEdge_ExecutorInstantiate: {
    parameters: [ADDRESS, "buffer", ADDRESS, ADDRESS],
    result: RESULT,
  },
  instantiateAsync: {
    name: "WasmEdge_ExecutorInstantiate",
    parameters: [ADDRESS, "buffer", ADDRESS, ADDRESS],
    result: RESULT,
    nonblocking: true,
  },
  WasmEdge_ExecutorAsyncInvoke: {
    parameters: [ADDRESS, ADDRESS, ADDRESS, "u32"],
    result: ADDRESS,
  },
  // (executor, function, params, count, returns, count)
  WasmEdge_ExecutorInvoke: {
    parameters: [ADDRESS, ADDRESS, ADDRESS, "u32", ADDRESS, "u32"],
    result: RESULT,
  },
  WasmEdge_AsyncWait: { parameters: [ADDRESS], result: "void" },
  WasmEdge_AsyncWaitFor: { parameters: [ADDRESS, "u64"], result: "bool" },
  WasmEdge_AsyncCancel: { parameters: [ADDRESS], result: "void" },
  WasmEdge_AsyncDelete: { parameters: [ADDRESS], result: "void" },

  // (argv, count, env, count, preopens, count, stdin, stdout, stderr)
  WasmEdge_ModuleInstanceCreateWASIWithFds: {
    parameters: [ADDRESS, "u32", ADDRESS, "u32", ADDRESS, "u32", "i32", "i32", "i32"],
    result: ADDRESS,
  },
  WasmEdge_ModuleInstanceCreateWASI: {
    parameters: [ADDRESS, "u32", ADDRESS, "u32", ADDRESS, "u32"],
    result: ADDRESS,
  },
  // (WASI instance, guest descriptor, host descriptor *): 0 where there is one
  WasmEdge_ModuleInstanceWASIGetNativeHandler: {
    parameters: [ADDRESS, "i32", "buffer"],
    result: "u32",
  },
  WasmEdge_ModuleInstanceWASIGetExitCode: { parameters: [ADDRESS], result: "u32" },
  // (module instance, name by value {length, pointer})
  WasmEdge_ModuleInstanceFindFunction: {
    parameters: [ADDRESS, "u32", "buffer"],
    result: ADDRESS,
  },
  WasmEdge_ModuleInstanceFindMemory: { parameters: [ADDRESS, "u32", "buffer"], result: ADDRESS },
  WasmEdge_ModuleInstanceListFunctionLength: { parameters: [ADDRESS], result: "u32" },
  // (module instance, WasmEdge_String *, count)
  WasmEdge_ModuleInstanceListFunction: {
    parameters: [ADDRESS, "buffer", "u32"],
    result: "u32",
  },
  WasmEdge_ModuleInstanceDelete: { parameters: [ADDRESS], result: "void" },
  // (memory, offset, length): the address of the bytes, or NULL
  WasmEdge_MemoryInstanceGetPointer: { parameters: [ADDRESS, "u64", "u64"], result: ADDRESS },
  WasmEdge_MemoryInstanceGetPageSize: { parameters: [ADDRESS], result: "u64" },
} as const satisfies Deno.ForeignLibraryInterface;
