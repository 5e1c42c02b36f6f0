// Package snippets holds the code that the documents show, so that it compiles
// and runs. Its test sees to it that every Go block of README.md and docs stands,
// word for word, in some Go file of the repository. It has no code of its own.
package snippets
