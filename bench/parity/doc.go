// Package parity compares Reprise with gax-go, whose API of version 2.0.4 it
// keeps. Its tests hold both to the same scripts, compile the same user's code
// against both, and show every difference that docs/gax.md lists. It has no
// code of its own.
package parity
