// Package reprise invokes calls that may fail.
package reprise
