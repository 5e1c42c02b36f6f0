// Package bench measures Reprise beside its peers.
package bench
