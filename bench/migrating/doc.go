// Package migrating holds both sides of docs/migrating.md: code as users of other
// libraries write it, and the same with Reprise. Its tests make the same calls
// through both. It has no code of its own.
package migrating
