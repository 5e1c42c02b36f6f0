// Package imports keeps the promise that the library is light: its test lists
// what each package of the module pulls in and compares that with what it may.
// It has no code of its own.
package imports
