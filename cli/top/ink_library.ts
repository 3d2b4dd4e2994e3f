/**
 * Ink and React, as far as they are used here.
 *
 * @module
 */

// @ts-types="./ink.d.ts"
export { Box, render, Text, useInput } from "ink";
// @ts-types="./react.d.ts"
export { createElement } from "react";
