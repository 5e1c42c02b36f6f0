// Package completion makes a transaction apply at most once, by a completion record
// that etcd writes together with it, as RIFL does (Lee et al., SOSP 2015), and gives
// the response of one that was applied although nobody got the answer.
//
// It builds the requests and understands the answers: that of a guarded transaction,
// what the key of the record holds, and past states of the store. Who sends them,
// when, and what an attempt without an answer means, is not its concern; nor is who
// creates the keys, its slots, and keeps them. docs/exactly-once.md describes the
// whole protocol.
package completion
